"""The vendored ONNX Runtime Web is what npm ships, to the byte, wrapped so that a page on a disk can load it."""

import hashlib
import re
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book"))

import pack_runtime  # noqa: E402

SUM = re.compile(r"^([0-9a-f]{64})  (\S+)$", re.MULTILINE)


def test_the_files_are_those_of_the_npm_package():
    script = (pack_runtime.VENDOR / "ort-files.js").read_text(encoding="utf-8")
    inside = pack_runtime.unpacked(script)
    found = {pack_runtime.SCRIPT: (pack_runtime.VENDOR / pack_runtime.SCRIPT).read_bytes()}
    found |= {pack_runtime.PACKED[key]: content for key, content in inside.items()}
    readme = (pack_runtime.VENDOR / "README.md").read_text(encoding="utf-8")
    sums = {name: digest for digest, name in SUM.findall(readme)}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in found.items()} == sums
    assert inside["wasm"].startswith(b"\0asm")


def test_the_version_in_the_readme_is_that_of_the_script():
    banner = (pack_runtime.VENDOR / pack_runtime.SCRIPT).read_text(encoding="utf-8")[:200]
    version = re.search(r"ONNX Runtime Web v([\d.]+)", banner)[1]
    readme = (pack_runtime.VENDOR / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"# ONNX Runtime Web {version}\n") and f"onnxruntime-web@{version}" in readme
    assert "Microsoft" in (pack_runtime.VENDOR / "LICENSE").read_text(encoding="utf-8")


@given(st.dictionaries(st.sampled_from(["module", "wasm", "more"]), st.binary(max_size=5000), min_size=1))
def test_what_is_packed_comes_back(contents):
    assert pack_runtime.unpacked(pack_runtime.packed(contents)) == contents
