def write_report(run, metrics, samples):
    return None
