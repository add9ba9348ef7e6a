"""Every struct, field and number of plugin.h is pinned by abi_layout.c.

usage: layout_complete.py plugin.h abi_layout.c"""
import re
import sys


def header_names(text):
    """Structs, (struct, field) pairs and enumerators of the header."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"^#.*$", "", text, flags=re.M)
    structs, fields, numbers = set(), set(), set()
    for name, body in re.findall(r"struct (\w+) \{(.*?)\n\}", text, flags=re.S):
        structs.add(name)
        for declaration in filter(None, (one.strip() for one in body.split(";"))):
            function = re.search(r"\(\*(\w+)\)", declaration)
            if function:
                fields.add((name, function.group(1)))
                continue
            for declarator in declaration.split(","):
                fields.add((name, re.search(r"(\w+)(\[\w+\])?\s*$", declarator).group(1)))
    for body in re.findall(r"enum \{(.*?)\}", text, flags=re.S):
        numbers.update(re.findall(r"(\w+)\s*=", body))
    return structs, fields, numbers


def main(header, layout):
    structs, fields, numbers = header_names(open(header, encoding="utf-8").read())
    pins = open(layout, encoding="utf-8").read()
    pinned = (set(re.findall(r"^SIZE\((\w+), \d+\);", pins, flags=re.M)),
              set(re.findall(r"^AT\((\w+), (\w+), \d+\);", pins, flags=re.M)),
              set(re.findall(r"^PIN\((\w+) == \w+\);", pins, flags=re.M)))
    wrong = False
    for what, there, found in zip(("struct", "field", "number"), (structs, fields, numbers), pinned):
        for name in sorted(there ^ found):
            wrong = True
            print(f"{what} {name}: found in {'the header' if name in there else 'the pins'} alone")
    print(f"{len(structs)} structs, {len(fields)} fields, {len(numbers)} numbers")
    return 1 if wrong or len(structs) < 20 or len(fields) < 200 or len(numbers) < 70 else 0


sys.exit(main(*sys.argv[1:]))
