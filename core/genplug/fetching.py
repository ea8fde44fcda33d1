"""`genplug fetch`: the weights of a preset, from where they are published into the cache.

    GENPLUG_CACHE/downloads/PRESET/FILE       the published file, if it was placed there by hand
    GENPLUG_CACHE/weights/PRESET.safetensors  what is used, written in one piece
    GENPLUG_CACHE/weights/PRESET.json         its receipt: address, licence, digests

A published file is never executed (`genplug.foreign`) and must fit the preset's own network before
anything is placed. Nothing else in genplug downloads.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from genplug import addresses
from genplug.downloads import Downloaded, NoNetworkError, Source, download
from genplug.errors import ConfigError, WeightsError
from genplug.extractors import preset_of
from genplug.layers import Layers
from genplug.log import Log, Silent
from genplug.paths import cache_directory
from genplug.presets import Registry, registry
from genplug.receipts import Receipt, disagreement, read_receipt, receipt_path, write_receipt
from genplug.registry import catalog
from genplug.resolving import Resolver, references, resolve_generator
from genplug.specs import Preset
from genplug.weights import cached_path, is_shipped, sha256_of

_OFFLINE = ("GENPLUG_OFFLINE", "HF_HUB_OFFLINE")
_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)


def fetch(preset: str, *, force: bool = False, log: Log | None = None) -> tuple[Receipt, ...]:
    """Fetch the weights of a preset and of its guide; return a receipt for each.

    What is here already is left alone, unless `force` asks for it again. The first download of a
    file whose sha256 the registry does not know records it; a later one must have the same.
    """
    data, log = registry(catalog()), log or Silent()
    return tuple(_fetch(each, force, log) for each in needed(named(preset, data), data))


def named(name: str, data: Registry) -> Preset:
    """Return a preset by its name, or the one that an extractor's reference means (`timm:resnet50`)."""
    if name in data.presets or not (":" in name or is_family(name)):
        return data.preset(name)
    (part,) = Resolver(catalog(), data, Layers({}, {})).extractors([name])
    preset = preset_of(part)
    if preset is None:
        raise ConfigError(f"extractor {name!r} has no published weights to fetch")
    return preset


def is_family(name: str) -> bool:
    """Return whether a name is that of an extractor, whose default preset is meant."""
    return name in catalog().entries["extractor"] and name not in catalog().entries["generator"]


def needed(preset: Preset, data: Registry) -> list[Preset]:
    """Return the presets whose weights have to be fetched for one: its own, then its guide's."""
    if preset.address is None and preset.kind == "objective":
        raise ConfigError(f"preset {preset.name!r} is of an objective: it has no weights to fetch")
    found = {preset.name: preset}
    if preset.kind == "generator":
        part = resolve_generator(preset.name, catalog(), data)
        seconds = [reference.part.preset for reference in references(part, catalog(), data)]
        found |= {second.name: second for second in seconds if second is not None}
    downloads = [each for each in found.values() if each.address is not None and not is_shipped(each)]
    if not downloads:
        raise ConfigError(f"preset {preset.name!r} has nothing to fetch: {_where(preset)}")
    return downloads


def _where(preset: Preset) -> str:
    return "its weights travel with the package" if preset.address else "it has no address"


def _fetch(preset: Preset, force: bool, log: Log) -> Receipt:
    """Fetch one preset, one process at a time."""
    weights = cached_path(preset)
    with _writing(), _alone(weights, log):
        known = read_receipt(weights)
        if weights.is_file() and not force:
            if known is None:
                raise WeightsError(f"{weights} is here, but was not fetched; replace it with --force")
            if reason := disagreement(known, preset):
                raise WeightsError(f"{weights} {reason}; replace it with --force")
            log.info(f"{preset.name} is here already: {weights}")
            return known
        log.warn(f"{preset.name}: licence {preset.licence or 'unknown'} ({preset.address})")
        published, placed = _published(preset, force, log)
        try:
            _judge(preset, published, known, placed)
            receipt = _place(preset, published, weights, log)
        except WeightsError:
            if not placed:  # what was refused would be refused again
                published.path.unlink(missing_ok=True)
            raise
        if not placed:
            published.path.unlink()
        return receipt


@contextmanager
def _alone(weights: Path, log: Log) -> Iterator[None]:
    """Hold the preset for this process; a second one says so and waits."""
    weights.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(weights.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warn(f"another process fetches {weights.stem}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing() -> Iterator[None]:
    """Say in one line that the cache cannot be written; a full disk is told elsewhere."""
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise WeightsError(
            f"{error.filename or cache_directory()} cannot be written ({error.strerror or error}); "
            "set GENPLUG_CACHE to a folder of yours"
        ) from None


def _published(preset: Preset, again: bool, log: Log) -> tuple[Downloaded, bool]:
    """Return the published file, and whether the user placed it by hand.

    A finished download waits as `FILE.whole` until it has been converted; what is called `FILE` is
    the user's.
    """
    address = addresses.parse(preset.address or "")
    placed = cache_directory() / "downloads" / preset.name / address.filename
    whole = placed.with_name(f"{placed.name}.whole")
    for here in (placed,) if again else (placed, whole):
        if here.is_file():
            log.info(f"{preset.name}: taken from {here}")
            return Downloaded(here, sha256_of(here), here.stat().st_size), here == placed
    by_hand = (
        f"download {address.url} elsewhere, place it at {placed} and repeat genplug fetch {preset.asked}"
    )
    if address.is_remote and (variable := _offline()):
        raise WeightsError(f"{variable} is set, so nothing is downloaded; {by_hand}")
    try:
        placed.parent.mkdir(parents=True, exist_ok=True)
        return download(_source(address), whole, log), False
    except NoNetworkError as error:
        raise WeightsError(f"{error}; try again, or {by_hand}") from None


def _source(address: addresses.Address) -> Source:
    """Return what to ask the server: on the hub with the user's token, which goes to the hub alone."""
    if not address.repository:
        return Source(address.url, {}, "")
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    gate = f"; accept the terms at {addresses.hub()}/{address.repository} and set HF_TOKEN to your token"
    return Source(address.url, headers, gate)


def _offline() -> str:
    """Return the variable that forbids the network; empty if none does."""
    no = ("", "0", "false", "no", "off")
    return next((name for name in _OFFLINE if os.environ.get(name, "").lower() not in no), "")


def _judge(preset: Preset, published: Downloaded, known: Receipt | None, placed: bool) -> None:
    """Refuse a file that is not the published one, or not the one that was first seen; remove a download."""
    wrong = ""
    if preset.bytes not in (None, published.bytes):
        wrong = f"{published.bytes:,} bytes, not {preset.bytes:,} as the registry says"
    if preset.sha256 not in (None, published.sha256):
        wrong = f"sha256 {published.sha256}, not {preset.sha256} as the registry says"
    elif known is not None and known.address == preset.address and known.sha256 != published.sha256:
        wrong = (
            f"sha256 {published.sha256}, not {known.sha256} as when first fetched on {known.when[:10]}; "
            f"to accept another file remove {receipt_path(cached_path(preset))}"
        )
    if not wrong:
        return
    if placed:
        raise WeightsError(f"{published.path} has {wrong}")
    published.path.unlink()
    raise WeightsError(f"{preset.address} has {wrong}; the download was removed")


def _place(preset: Preset, published: Downloaded, weights: Path, log: Log) -> Receipt:
    """Convert the published file to safetensors, if it fits the preset's network; return its receipt."""
    from genplug.foreign import convert
    from genplug.networks import expected

    network = expected(preset.asked)
    log.info(f"{preset.name}: converting")
    partial = weights.with_name(f".{weights.name}.{os.getpid()}")
    try:
        found = convert(
            published.path,
            partial,
            part=preset.part,
            prefix=preset.prefix,
            fits=network.shapes,
            adapt=network.adapt,
            what=f"preset {preset.name!r}",
            metadata={"preset": preset.name, "licence": preset.licence or "unknown"},
        )
        if found.format != preset.format:
            raise WeightsError(
                f"{published.path} is {found.format}, not {preset.format} as the registry says"
            )
        receipt = _receipt(preset, published, partial)
        write_receipt(weights, receipt)  # first: weights without a receipt are not trusted
        os.replace(partial, weights)
        return receipt
    finally:
        partial.unlink(missing_ok=True)


def _receipt(preset: Preset, published: Downloaded, made: Path) -> Receipt:
    return Receipt(
        preset=preset.name,
        address=preset.address or "",
        licence=preset.licence,
        sha256=published.sha256,
        bytes=published.bytes,
        verified=preset.sha256 is not None,
        weights_sha256=sha256_of(made),
        weights_bytes=made.stat().st_size,
        when=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
