"""A plugin exports its entry and nothing else, and needs nothing beyond the C and C++ runtimes.

usage: symbols.py NM READELF PLUGIN.so ..."""
import re
import subprocess
import sys

RUNTIMES = re.compile(r"(lib(c|m|stdc\+\+|gcc_s|pthread|dl|asan|ubsan)\.so\.\d+|ld-linux.*)$")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(nm, readelf, *plugins):
    wrong = []
    for plugin in plugins:
        exported = [line.split()[-1] for line in run(nm, "-D", "--defined-only", plugin).splitlines()]
        if exported != ["loadstone_plugin_query"]:
            wrong.append(f"{plugin}: exports {', '.join(exported)}, expected its entry alone")
        wanted = [line.split()[-1] for line in run(nm, "-D", "--undefined-only", plugin).splitlines()]
        wrong += [f"{plugin}: wants {name} of the host" for name in wanted if "loadstone" in name]
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run(readelf, "-d", plugin))
        wrong += [f"{plugin}: needs {name}" for name in needed if not RUNTIMES.match(name)]
    print("\n".join(wrong) or f"{len(plugins)} plugins")
    return 1 if wrong or not plugins else 0


sys.exit(main(*sys.argv[1:]))
