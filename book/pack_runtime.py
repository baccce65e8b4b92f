"""Pack ONNX Runtime Web for the page `chapters/practice/try-it`: run by hand when its version changes.

    npm pack onnxruntime-web@1.30.0
    python book/pack_runtime.py onnxruntime-web-1.30.0.tgz

A page that is opened from the disk may load scripts and nothing else: browsers refuse it modules and WebAssembly files.
So the two files that the runtime would fetch, its WebAssembly and the module that starts it, are put into a script, as
gzip in base64; the page unpacks them in memory. Only the plain CPU build is taken: no WebGPU, no WebGL, no threads
(a page has threads only with headers that ``python -m http.server`` does not send). What this is *not*: a change of a
single byte of the runtime, as the checksums in the folder's README say and `tests/book/test_pack_runtime.py` checks.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import re
import tarfile
from pathlib import Path

VENDOR = Path(__file__).resolve().parent / "extra" / "vendor" / "onnxruntime-web"
SCRIPT = "ort.wasm.min.js"  # the interface; taken as it is
PACKED = {"module": "ort-wasm-simd-threaded.mjs", "wasm": "ort-wasm-simd-threaded.wasm"}
LINE = 1000  # characters of base64: no tool has to print a line of five megabytes


def packed(contents: dict[str, bytes]) -> str:
    """The script that holds `contents`: ``ortFiles.wasm`` is a string of base64 of gzip, with line ends inside."""
    parts = []
    for name, content in contents.items():
        text = base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")
        lines = "\n".join(text[start : start + LINE] for start in range(0, len(text), LINE))
        parts.append(f"  {name}: `\n{lines}\n`,\n")
    return "globalThis.ortFiles = {\n" + "".join(parts) + "};\n"


def unpacked(script: str) -> dict[str, bytes]:
    """What `packed` put in."""
    return {
        name: gzip.decompress(base64.b64decode(text))
        for name, text in re.findall(r"^  (\w+): `([^`]*)`", script, re.MULTILINE)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path, help="the file that `npm pack onnxruntime-web@VERSION` wrote")
    with tarfile.open(parser.parse_args().package) as archive:
        files = {
            name: archive.extractfile(f"package/dist/{name}").read() for name in (SCRIPT, *PACKED.values())
        }
    (VENDOR / SCRIPT).write_bytes(files[SCRIPT])
    script = packed({key: files[name] for key, name in PACKED.items()})
    (VENDOR / "ort-files.js").write_text(script, encoding="utf-8")
    print("for the table of README.md:")
    for name, content in files.items():
        print(f"{hashlib.sha256(content).hexdigest()}  {name}")


if __name__ == "__main__":
    main()
