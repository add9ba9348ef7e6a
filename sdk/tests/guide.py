"""The guide sdk/README.md is right: its commands run in their order, its C++ is the example's.

usage: guide.py SOURCE BUILD"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)


def lines_of(text):
    return [line.strip() for line in text.splitlines() if line.strip()]


def main(source, build):
    source = pathlib.Path(source)
    guide = (source / "sdk/README.md").read_text(encoding="utf-8")
    steps = re.findall(r"^\*\*(\d+)\.", guide, flags=re.M)
    assert steps == [str(i) for i in range(1, 11)], steps

    example = set()
    for path in (source / "examples/custom_plugin").glob("*.?pp"):
        example.update(lines_of(path.read_text(encoding="utf-8")))
    for block in blocks(guide, "cpp"):
        for line in lines_of(block):
            assert line in example, f"not in examples/custom_plugin: {line}"

    commands = blocks(guide, "sh")
    assert len(commands) == 2, commands
    with tempfile.TemporaryDirectory() as place:
        root = pathlib.Path(place)
        (root / "build").mkdir()
        (root / "build/release").symlink_to(build)
        for name in ("sdk", "examples"):
            (root / name).symlink_to(source / name)
        script = "set -euo pipefail\n" + "".join(commands)
        environment = {k: v for k, v in os.environ.items() if k != "LOADSTONE_PLUGIN_PATH"}
        done = subprocess.run(["bash", "-c", script], cwd=root, env=environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        print(done.stdout[-4000:])
        assert done.returncode == 0, done.returncode
        assert (root / "emoji_hadamard4/model_index.json").exists()


main(*sys.argv[1:])
