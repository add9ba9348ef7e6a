#!/usr/bin/env python3
"""Writes unicode_tables.cpp from a JSON file of character facts.

usage: make_unicode_tables.py unicode-classes.json > unicode_tables.cpp

The JSON holds: letter, number, space and not_recomposed as [first, last] ranges;
canonical_decomposition as [code point, parts...] (one step); combining_class as
[class, first, last, first, last, ...].
"""
import json
import sys


def rows(items, per_line):
    lines = []
    for start in range(0, len(items), per_line):
        lines.append("    " + ", ".join(items[start:start + per_line]) + ",")
    return "\n".join(lines)


def table(type_name, name, items, per_line):
    return (f"constexpr {type_name} {name}_table[] = {{\n{rows(items, per_line)}\n}};\n")


def ranges(name, pairs):
    items = [f"{{{first:#x}, {last:#x}}}" for first, last in sorted(pairs)]
    return table("Range", name, items, 6)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        facts = json.load(file)
    excluded = set()
    for first, last in facts["not_recomposed"]:
        excluded.update(range(first, last + 1))
    steps = sorted(facts["canonical_decomposition"])
    decompositions, compositions = [], []
    for code, *parts in steps:
        second = parts[1] if len(parts) == 2 else 0
        decompositions.append(f"{{{code:#x}, {parts[0]:#x}, {second:#x}}}")
        if second and code not in excluded:
            compositions.append((parts[0], second, code))
    combining = []
    for number, *flat in facts["combining_class"]:
        for first, last in zip(flat[::2], flat[1::2]):
            combining.append((first, last, number))
    out = [
        "// Written by make_unicode_tables.py: facts of the Unicode Character Database as the Qwen",
        "// tokenizer behaves (letters and numbers of a newer version than its normal form).",
        "// clang-format off",
        '#include "runtime/tokenizer/unicode_tables.hpp"',
        "",
        "namespace loadstone::tokenizer {",
        "namespace {",
        "",
        ranges("letter", facts["letter"]),
        ranges("number", facts["number"]),
        ranges("space", facts["space"]),
        table("Decomposition", "decomposition", decompositions, 4),
        table("Composition", "composition",
              [f"{{{a:#x}, {b:#x}, {c:#x}}}" for a, b, c in sorted(compositions)], 4),
        table("CombiningRange", "combining",
              [f"{{{a:#x}, {b:#x}, {n}}}" for a, b, n in sorted(combining)], 5),
        "}  // namespace",
        "",
        "const std::span<const Range> kLetters = letter_table;",
        "const std::span<const Range> kNumbers = number_table;",
        "const std::span<const Range> kSpaces = space_table;",
        "const std::span<const Decomposition> kDecompositions = decomposition_table;",
        "const std::span<const Composition> kCompositions = composition_table;",
        "const std::span<const CombiningRange> kCombining = combining_table;",
        "",
        "}  // namespace loadstone::tokenizer",
    ]
    print("\n".join(out))


if __name__ == "__main__":
    main()
