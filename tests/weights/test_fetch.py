"""`genplug fetch` against a real server: resumed, never spliced, checked, refused in one line."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from genplug import downloads
from genplug.downloads import Source, download
from genplug.errors import WeightsError
from genplug.fetching import fetch
from genplug.log import Silent

CONTENT = bytes(range(256)) * 16_000  # 4 MB, in chunks of 1 MB


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PAUSES", (0.01, 0.01))


def get(site, target: Path, path: str = "/file", headers: dict[str, str] | None = None):
    return download(Source(f"{site.url}{path}", headers or {}), target, Silent())


def cache() -> Path:
    return Path(os.environ["GENPLUG_CACHE"])


# --- the transfer ---------------------------------------------------------------------------------


def test_a_cut_connection_is_continued_by_asking_for_the_rest(site, tmp_path: Path) -> None:
    site.files["/file"], site.cuts = CONTENT, [1_500_000]
    found = get(site, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert (found.sha256, found.bytes) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert site.header("Range") == [None, "bytes=1500000-"]
    assert site.header("If-Range") == [None, '"one"']
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_download_given_up_is_continued_by_the_next(site, tmp_path: Path) -> None:
    site.files["/file"], site.cuts = CONTENT, [1_000_000, 0, 0, 0]
    with pytest.raises(WeightsError, match=r"1,000,000 of 4,096,000 bytes arrived"):
        get(site, tmp_path / "f")
    assert (tmp_path / "f.part").stat().st_size == 1_000_000
    get(site, tmp_path / "f")
    assert site.header("Range")[-1] == "bytes=1000000-"
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("change", ["other file", "no ranges", "no tag", "weak tag"])
def test_what_cannot_be_continued_starts_again_and_is_never_spliced(
    site, tmp_path: Path, change: str
) -> None:
    site.files["/file"], site.cuts = CONTENT, [1_000_000, 0, 0, 0]
    site.tag = {"no tag": None, "weak tag": 'W/"one"'}.get(change, '"one"')
    with pytest.raises(WeightsError):
        get(site, tmp_path / "f")
    site.ranges = change != "no ranges"
    if change == "other file":
        site.files["/file"], site.tag = bytes(reversed(CONTENT)), '"two"'
    get(site, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == site.files["/file"]


def test_an_answer_of_another_version_is_not_appended(site, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(b"x" * 100)
    (tmp_path / "f.part.json").write_text(json.dumps({"url": f"{site.url}/file", "validator": '"old"'}))
    site.files["/file"], site.careless = CONTENT, True  # continues whatever was asked for
    get(site, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_beginning_of_another_address_is_not_continued(site, tmp_path: Path) -> None:
    site.files |= {"/file": CONTENT, "/other": CONTENT[::-1]}
    site.cuts = [1_000_000, 0, 0, 0]
    with pytest.raises(WeightsError):
        get(site, tmp_path / "f")
    get(site, tmp_path / "f", "/other")
    assert (tmp_path / "f").read_bytes() == CONTENT[::-1]


def test_a_file_that_became_shorter_starts_again(site, tmp_path: Path) -> None:
    site.files["/file"] = CONTENT
    (tmp_path / "f.part").write_bytes(CONTENT)
    (tmp_path / "f.part.json").write_text(json.dumps({"url": f"{site.url}/file", "validator": '"one"'}))
    site.statuses = [416]
    assert get(site, tmp_path / "f").bytes == len(CONTENT)


def test_a_busy_server_is_asked_again(site, tmp_path: Path) -> None:
    site.files["/file"], site.statuses = CONTENT, [503, 429]
    assert get(site, tmp_path / "f").bytes == len(CONTENT)


def test_a_server_that_falls_silent_is_left(site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    site.files["/file"], site.pause, site.tag = CONTENT, 2.0, None
    with pytest.raises(WeightsError, match="timed out"):
        get(site, tmp_path / "f")


def test_a_redirect_is_followed_and_the_servers_name_ignored(site, tmp_path: Path) -> None:
    site.files["/file"], site.redirects["/old"] = CONTENT, "/file"
    get(site, tmp_path / "f", "/old")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_token_is_not_given_to_another_host(site, other_site, tmp_path: Path) -> None:
    other_site.files["/file"] = CONTENT
    site.redirects = {"/file": f"{other_site.url}/file"}
    get(site, tmp_path / "f", headers={"Authorization": "Bearer secret"})
    assert site.header("Authorization") == ["Bearer secret"]
    assert other_site.header("Authorization") == [None]


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_out_of_the_web_is_refused(site, tmp_path: Path, place: str) -> None:
    site.redirects["/file"] = place
    with pytest.raises(WeightsError):
        get(site, tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_redirect_from_https_to_http_is_refused() -> None:
    import urllib.request

    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(WeightsError, match="not encrypted"):
        downloads._Redirects().redirect_request(request, None, 302, "", {}, "http://example.org/b")


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def published(site, here: Path, snapshot: bytes, entry: Callable[..., str]) -> Callable[..., None]:
    """Publish the tiny network and write a user's registry that names it."""

    def publish(extra: str = "", address: str = "", content: bytes = snapshot) -> None:
        site.files["/net.pkl"] = content
        (here / "registry.toml").write_text(entry(address or f"{site.url}/net.pkl", extra=extra))

    publish()
    return publish


def genplug(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "genplug", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300
    )


def test_as_a_user_fetch_a_pickle_and_get_the_published_outputs(published, golden: Path) -> None:
    import genplug as library

    missing = genplug("sample", "edm2.tiny", "-o", "x.npz", "-n", "2")
    assert missing.returncode == 2
    assert missing.stderr.endswith("edm2.tiny.safetensors; genplug fetch edm2.tiny\n")
    fetched = genplug("fetch", "edm2.tiny")
    assert fetched.returncode == 0, fetched.stderr
    assert "licence CC BY-NC-SA 4.0" in fetched.stderr
    assert "unverified: first seen" in fetched.stdout
    receipt = json.loads((cache() / "weights" / "edm2.tiny.json").read_text())
    assert receipt["sha256"] in genplug("plugins", "edm2.tiny").stdout
    known = load_file(golden / "edm2_tiny_snapshot.safetensors")
    with torch.no_grad():
        cond = library.Condition(weights_NK=known["in/labels"])
        got = library.load("edm2.tiny").denoise(known["in/x"], known["in/sigma"], cond)
    expected = known["out/D_x_fp32"]
    assert (got - expected).abs().max() <= 5e-5 * expected.std()


def test_as_a_user_fetch_a_torch_file_and_sample(published, site, here: Path, entry) -> None:
    import genplug as library

    (here / "registry.toml").write_text(
        entry(f"{site.url}/net.pth", channels=3, extra='part = "net"').replace("nvlabs-pickle", "torch")
    )
    state = library.load("edm2.tiny", weights="none").state_dict()
    torch.save({"step": 3, "net": state}, here / "net.pth")
    site.files["/net.pth"] = (here / "net.pth").read_bytes()
    assert genplug("fetch", "edm2.tiny").returncode == 0
    sampled = genplug("sample", "edm2.tiny", "-o", "x.npz", "-n", "2")
    assert sampled.returncode == 0, sampled.stderr
    assert np.load(here / "x.npz")["arr_0"].shape == (2, 8, 8, 3)


def test_the_receipt_tells_where_from_what_and_under_which_licence(published, site, snapshot: bytes) -> None:
    (receipt,) = fetch("edm2.tiny")
    weights = cache() / "weights" / "edm2.tiny.safetensors"
    assert receipt.sha256 == hashlib.sha256(snapshot).hexdigest()
    assert receipt.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (receipt.licence, receipt.address) == ("CC BY-NC-SA 4.0", f"{site.url}/net.pkl")
    assert (receipt.bytes, receipt.verified) == (len(snapshot), False)
    assert fetch("edm2.tiny") == (receipt,)
    assert len(site.asked) == 1
    assert [path for path in (cache() / "downloads").rglob("*") if path.is_file()] == []


def test_a_known_sha256_is_verified_and_a_wrong_one_removes_the_download(published, snapshot: bytes) -> None:
    digest = hashlib.sha256(snapshot).hexdigest()
    published(f'sha256 = "{digest}"\nbytes = {len(snapshot)}')
    assert fetch("edm2.tiny")[0].verified
    published(f'sha256 = "{"0" * 64}"')
    with pytest.raises(WeightsError, match=rf"sha256 {digest}, not 0{{64}} as the registry says"):
        fetch("edm2.tiny", force=True)
    assert not list((cache() / "downloads").rglob("*.pkl*"))
    assert (cache() / "weights" / "edm2.tiny.safetensors").is_file()


def test_a_file_that_changed_since_it_was_first_seen_is_refused(published, snapshot: bytes) -> None:
    fetch("edm2.tiny")
    published(content=snapshot + b"\n")
    with pytest.raises(WeightsError, match=r"as when first fetched on .*; to accept another file remove"):
        fetch("edm2.tiny", force=True)


@pytest.mark.parametrize("changed", [f'sha256 = "{"0" * 64}"', 'address = "https://example.org/other.pkl"'])
def test_weights_that_the_registry_no_longer_means_are_refused(published, changed: str) -> None:
    """A registry that is mended after a fetch must not go on with what was fetched before."""
    import genplug

    fetch("edm2.tiny")
    file = Path("registry.toml")
    kept = [line for line in file.read_text().splitlines() if not line.startswith(changed.split()[0])]
    at = kept.index('[preset."edm2.tiny"]') + 1
    file.write_text("\n".join([*kept[:at], changed, *kept[at:]]))
    with pytest.raises(WeightsError, match=r"the preset says .*; replace it with --force"):
        fetch("edm2.tiny")
    with pytest.raises(WeightsError, match=r"replace it with genplug fetch edm2\.tiny --force"):
        genplug.load("edm2.tiny")


def test_what_was_refused_is_not_taken_for_a_download_again(published, snapshot: bytes) -> None:
    published(content=b"<html>no such file</html>")
    with pytest.raises(WeightsError):
        fetch("edm2.tiny")
    published(content=snapshot)
    assert fetch("edm2.tiny")


def test_weights_that_the_user_put_there_are_not_replaced_unasked(published) -> None:
    weights = cache() / "weights" / "edm2.tiny.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"mine")
    with pytest.raises(WeightsError, match="was not fetched; replace it with --force"):
        fetch("edm2.tiny")
    fetch("edm2.tiny", force=True)
    assert weights.read_bytes() != b"mine"


def test_weights_that_changed_on_disk_are_refused(published) -> None:
    import genplug

    fetch("edm2.tiny")
    weights = cache() / "weights" / "edm2.tiny.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(WeightsError, match=r"as was fetched; remove it and repeat genplug fetch edm2\.tiny"):
        genplug.load("edm2.tiny")


@pytest.mark.parametrize(
    "content", [b"", b"<html>sorry</html>", b"\x80\x04}."], ids=["empty", "page", "dict"]
)
def test_a_file_that_does_not_fit_is_not_placed(published, content: bytes) -> None:
    published(content=content)
    with pytest.raises(WeightsError):
        fetch("edm2.tiny")
    assert not list((cache() / "weights").glob("*.safetensors"))


def test_weights_of_another_size_are_not_placed(published, here: Path, site, entry) -> None:
    (here / "registry.toml").write_text(entry(f"{site.url}/net.pkl", model_channels=32))
    with pytest.raises(WeightsError, match=r"edm2\.tiny"):
        fetch("edm2.tiny")
    assert not list((cache() / "weights").glob("*.safetensors"))


def test_a_file_placed_by_hand_is_taken_without_network_and_kept(published, snapshot: bytes) -> None:
    place = cache() / "downloads" / "edm2.tiny" / "net.pkl"
    refused = genplug("fetch", "edm2.tiny", GENPLUG_OFFLINE="1")
    assert refused.returncode == 2
    assert refused.stderr.count("Error") == 1
    assert "GENPLUG_OFFLINE is set, so nothing is downloaded; download http" in refused.stderr
    assert f"place it at {place} and repeat genplug fetch edm2.tiny" in refused.stderr
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(snapshot)
    done = genplug("fetch", "edm2.tiny", "--json", GENPLUG_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["sha256"] == hashlib.sha256(snapshot).hexdigest()
    assert place.read_bytes() == snapshot


def test_a_mirror_on_this_machine_needs_no_network(
    published, tmp_path: Path, snapshot: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "mirror.pkl").write_bytes(snapshot)
    published(address=f"file://{tmp_path}/mirror.pkl")
    assert fetch("edm2.tiny")[0].bytes == len(snapshot)
    published(address=f"file://{tmp_path}/gone.pkl")
    with pytest.raises(WeightsError, match="no such file"):
        fetch("edm2.tiny", force=True)


@pytest.mark.parametrize(
    ("status", "words"), [(404, "404"), (403, r"access refused \(403\)"), (401, r"access refused \(401\)")]
)
def test_a_refusal_is_one_line(published, site, status: int, words: str) -> None:
    site.statuses = [status]
    with pytest.raises(WeightsError, match=words) as error:
        fetch("edm2.tiny")
    assert "\n" not in str(error.value)
    assert len(site.asked) == 1


def test_no_network_says_what_to_place_where(published) -> None:
    published(address="http://127.0.0.1:9/net.pkl")
    with pytest.raises(
        WeightsError, match=r"refused; try again, or download .* elsewhere, place it at .*net\.pkl"
    ):
        fetch("edm2.tiny")


def test_the_hub_gets_the_token_and_a_gate_is_explained(
    published, site, other_site, snapshot: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    other_site.files["/blob"] = snapshot
    published(address="hf:some/nets@v1/a/tiny.pkl")
    site.statuses = [403]
    with pytest.raises(WeightsError, match=r"accept the terms at http://.*/some/nets and set HF_TOKEN"):
        fetch("edm2.tiny")
    site.redirects["/some/nets/resolve/v1/a/tiny.pkl"] = f"{other_site.url}/blob"
    fetch("edm2.tiny")
    assert site.header("Authorization") == ["Bearer hf_secret"] * 2
    assert other_site.header("Authorization") == [None]


def test_two_fetches_at_once_download_once(published, site) -> None:
    site.pause = 1.0
    receipts: list[object] = []
    threads = [threading.Thread(target=lambda: receipts.append(fetch("edm2.tiny"))) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(0.2)
    for thread in threads:
        thread.join(timeout=120)
    assert len(site.asked) == 1
    assert len(receipts) == 2
    assert receipts[0] == receipts[1]


def test_a_killed_fetch_is_continued(published, site) -> None:
    site.pause = 60.0
    running = subprocess.Popen(
        [sys.executable, "-m", "genplug", "fetch", "edm2.tiny"], stderr=subprocess.PIPE
    )
    part = cache() / "downloads" / "edm2.tiny" / "net.pkl.whole.part"
    deadline = time.monotonic() + 120
    while not (part.is_file() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.kill()
    running.communicate()
    arrived, site.pause = part.stat().st_size, 0.0
    assert arrived > 0
    fetch("edm2.tiny")
    assert site.header("Range") == [None, f"bytes={arrived}-"]


def test_a_file_of_another_format_is_not_placed(published, here: Path, site, entry) -> None:
    text = entry(f"{site.url}/net.pkl").replace("nvlabs-pickle", "torch")
    (here / "registry.toml").write_text(text)
    with pytest.raises(WeightsError, match="is nvlabs-pickle, not torch as the registry says"):
        fetch("edm2.tiny")
    assert not list((cache() / "weights").glob("*.safetensors"))


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own, where the machine allows one."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("no file systems can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_what_arrived_is_continued(published, site, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=4m") as small:
        (small / "ballast").write_bytes(b"x" * 4_050_000)
        full = genplug("fetch", "edm2.tiny", GENPLUG_CACHE=str(small))
        assert full.returncode == 2
        assert "no space left on device" in full.stderr
        assert "Traceback" not in full.stderr
        (small / "ballast").unlink()
        done = genplug("fetch", "edm2.tiny", GENPLUG_CACHE=str(small))
        assert done.returncode == 0, done.stderr
    assert site.header("Range")[-1] is not None


def test_a_cache_that_cannot_be_written_is_one_line(published, tmp_path: Path) -> None:
    with mounted(tmp_path / "fixed", "size=1m,ro") as fixed:
        refused = genplug("fetch", "edm2.tiny", GENPLUG_CACHE=str(fixed))
    assert refused.returncode == 2
    assert refused.stderr.endswith(
        "cannot be written (Read-only file system); set GENPLUG_CACHE to a folder of yours\n"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("edm2.digits", "its weights travel with the package"),
        ("ddo.digits", "is of an objective"),
        ("edm2.img64-z", "did you mean"),
    ],
)
def test_presets_without_a_download_say_so(here: Path, name: str, words: str) -> None:
    refused = genplug("fetch", name)
    assert refused.returncode == 2
    assert words in refused.stderr
