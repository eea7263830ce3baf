"""Unpacks the benchmark beside this file and runs it. Needs Python with PyTorch, and nothing else: `python3 run.py --help`."""
import ctypes.util
import glob
import os
import sys
import tarfile

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = os.path.join(HERE, "unpacked")
ARCHIVE = os.path.join(HERE, "bundle.tar.gz")
SYSTEM_DRIVERS = ["/usr/share/vulkan/icd.d/*.json", "/etc/vulkan/icd.d/*.json"]
OTHER_DRIVERS = ["/usr/local/nvidia/share/vulkan/icd.d/*.json", "/usr/local/share/vulkan/icd.d/*.json"]


def unpack():
    """Once for each archive."""
    stamp = os.path.join(HOME, ".unpacked")
    made = str(os.path.getmtime(ARCHIVE))
    if os.path.exists(stamp) and open(stamp).read() == made:
        return
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(HOME)
    with open(stamp, "w") as file:
        file.write(made)


def environment():
    """Where the Vulkan loader and the GPU's driver are, where the system does not say so itself."""
    env = dict(os.environ)
    if ctypes.util.find_library("vulkan") is None:
        paths = [os.path.join(HOME, "lib"), env.get("LD_LIBRARY_PATH", "")]
        env["LD_LIBRARY_PATH"] = ":".join(path for path in paths if path)
    if "VK_DRIVER_FILES" not in env and not any(glob.glob(pattern) for pattern in SYSTEM_DRIVERS):
        drivers = [file for pattern in OTHER_DRIVERS for file in glob.glob(pattern)]
        if drivers:
            env["VK_DRIVER_FILES"] = env["VK_ICD_FILENAMES"] = ":".join(drivers)
    return env


unpack()
node = os.path.join(HOME, "node")
main = os.path.join(HOME, "dist", "bench", "gpu", "main.js")
os.execve(node, [node, main, "--python", sys.executable, *sys.argv[1:]], environment())
