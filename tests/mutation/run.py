#!/usr/bin/python3
"""Mutates core/config and core/plan and runs the text-driven cases against every mutant.

Operators, applied wherever they fit (mutate.py):
  flip a comparison   a == b, a < b … answer the opposite
  off by one          < for <=, > for >= and the other way round; an integer literal plus one
  drop a check        the body of an if never runs; an operand of && or || is left out; a
                      LS_CHECK(f()) doesn't call f
  swap an order       if/else and ?: take the other branch; two calls in a row change places
  return early        a function answers a default value at once

All mutants of a file are compiled into one object, each behind a switch that MUTANT=NUMBER sets
(switch.hpp); those that don't compile are dropped and counted. The program of the cases is linked
with these objects, run once to see which cases meet which mutants, then once for each mutant with
the cases that meet it (all, where it is met between them); it stops at the first that fails. A mutant
is killed when a case fails, crashes or hangs, that is takes ten times the processor time of all cases
(what only waits for a busy machine doesn't); asserts and the standard library's checks are on, so
that what only undefined behaviour hides crashes.
Survivors that someone has looked at are named with the reason in survivors.txt.

Needs a configured build folder with the targets cases_test and routing_test built, and Debian's
python3-clang-14; nothing may change in either meanwhile. Writes below BUILD/mutation, files of the
cases into a folder of its own that it removes. Exit: 0 enough killed (--goal), 3 too few, 1 failed.
"""
import argparse
import atexit
import glob
import json
import multiprocessing
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

import mutate

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
FOLDERS = ('core/config', 'core/plan')
NUMBERS = 1000  # of a file
WAITS = 900  # seconds without an end though hardly a processor's time is taken
CHECKED = ['core/base/tree.cpp']  # not mutated, but its asserts tell what a mutant asks wrongly
FLAGS = ['-w', '-O1', '-D_GLIBCXX_ASSERTIONS']
CASES = ['core/plan/CMakeFiles/routing_test.dir/routing_test.cpp.o']  # beside those of cases_test


def sources(only):
    out = []
    for folder in FOLDERS:
        for path in sorted(glob.glob(os.path.join(SOURCE, folder, '*.cpp'))):
            name = os.path.relpath(path, SOURCE)
            if not name.endswith('_test.cpp') and (not only or only in name):
                out.append(name)
    return out


def command_of(build, name):
    """The arguments that compile a source, without output and input."""
    with open(os.path.join(build, 'compile_commands.json'), encoding='utf-8') as file:
        for one in json.load(file):
            if one['file'] != os.path.join(SOURCE, name):
                continue
            words = shlex.split(one['command'])
            while not words[0].endswith('++'):  # ccache, cmake -E env
                words = words[1:]
            at = words.index('-o')
            words = words[:at] + words[at + 2:]
            words = words[:words.index('-c')]
            return one['directory'], [w for w in words if w not in ('-Werror', '-O3', '-DNDEBUG')]
    sys.exit(f'{name} is not in {build}/compile_commands.json')


def compile_mutants(work):
    """Writes and compiles one file with all its mutants; those that don't compile are dropped."""
    build, name, first = work
    directory, command = command_of(build, name)
    arguments = [w for w in command[1:] if w.startswith(('-I', '-D', '-std'))]
    system = [w for at, w in enumerate(command) if w == '-isystem' or command[at - 1] == '-isystem']
    file = mutate.File(os.path.join(SOURCE, name), name, arguments + system, first)
    if len(file.mutants) > NUMBERS:
        sys.exit(f'{name}: {len(file.mutants)} mutants, more than {NUMBERS}')
    out = os.path.join(build, 'mutation', name)
    os.makedirs(os.path.dirname(out), exist_ok=True)
    cache = ['ccache'] if shutil.which('ccache') else []
    base = cache + command + FLAGS + ['-I', HERE, '-include', os.path.join(HERE, 'switch.hpp'),
                      '-I', os.path.join(SOURCE, os.path.dirname(name))]
    dropped = set()
    while True:
        text, spans = file.write(dropped)
        with open(out, 'wb') as copy:
            copy.write(text)
        done = subprocess.run(base + ['-c', out, '-o', out + '.o', '-fmax-errors=0'], cwd=directory,
                              capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return file.mutants, dropped, out + '.o'
        lines = [0]
        for line in text.split(b'\n'):
            lines.append(lines[-1] + len(line) + 1)
        fresh = set()
        for row, column in re.findall(re.escape(out) + r':(\d+):(\d+): (?:error|note|  required)',
                                      done.stderr):
            at = lines[int(row) - 1] + int(column) - 1
            around = [(end - begin, number) for begin, end, number in spans if begin <= at <= end]
            if around:
                fresh.add(min(around)[1])
        if not fresh:
            sys.exit(f'{name}: no mutant explains\n{done.stderr[:3000]}')
        dropped |= fresh


def compile_checked(work):
    """Compiles a source as it is, with its asserts."""
    build, name = work
    directory, command = command_of(build, name)
    out = os.path.join(build, 'mutation', name + '.o')
    os.makedirs(os.path.dirname(out), exist_ok=True)
    subprocess.run(command + FLAGS + ['-c', os.path.join(SOURCE, name), '-o', out], cwd=directory,
                   check=True)
    return out


def link(build, objects, mutants):
    """The program of the cases with the mutated objects in front of the libraries."""
    done = subprocess.run(['ninja', '-C', build, '-t', 'commands', 'cases_test'],
                          capture_output=True, text=True, check=True)
    line = done.stdout.strip().split('\n')[-1]
    line = next(part for part in line.split('&&') if ' -o ' in part)
    words = shlex.split(line)
    program = os.path.join(build, 'mutation', 'cases_test')
    words[words.index('-o') + 1] = program
    at = next(i for i, word in enumerate(words) if word.endswith('.a') or '.so' in word)
    switch = os.path.join(build, 'mutation', 'switch.o')
    subprocess.run(['g++', '-std=c++20', '-O1', f'-DMUTANTS={mutants}', '-c',
                    os.path.join(HERE, 'switch.cpp'), '-o', switch], check=True)
    more = [os.path.join(build, name) for name in CASES]
    subprocess.run(words[:at] + more + objects + [switch] + words[at:], cwd=build, check=True)
    return program


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_one(work):
    """(number, how it was killed, or None when every case passed)."""
    program, number, cases, seconds, folder = work
    environment = dict(os.environ, MUTANT=str(number), TMPDIR=folder)
    arguments = [program, '--gtest_break_on_failure']
    if cases:
        arguments.append('--gtest_filter=' + ':'.join(sorted({test for test, _ in cases})))
        environment['LOADSTONE_CASES'] = ' '.join(place for _, place in cases)

    def limits():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))

    try:
        done = subprocess.run(arguments, env=environment, timeout=WAITS, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, preexec_fn=limits, check=False)
    except subprocess.TimeoutExpired:
        return number, 'waits'
    if done.returncode == 0:
        return number, None
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return number, 'hangs'
    return number, 'fails' if done.returncode in (1, -signal.SIGTRAP) else 'crashes'


def read_met(path):
    """number → [(test, place)] of the cases that meet it, or [] where no case alone does."""
    met = {}
    with open(path, encoding='utf-8') as file:
        for line in file:
            place, numbers = line.rstrip('\n').split('\t')
            for number in map(int, numbers.split()):
                met.setdefault(number, set()).add(tuple(place.split(' ', 1)))
    return {number: [] if ('',) in cases else sorted(cases) for number, cases in met.items()}


def reviewed():
    """(file, operator, text) → reason, from survivors.txt."""
    out = {}
    path = os.path.join(HERE, 'survivors.txt')
    if os.path.exists(path):
        with open(path, encoding='utf-8') as file:
            for line in file:
                parts = [part.strip() for part in line.rstrip('\n').split(' | ')]
                if len(parts) == 4 and not line.startswith('#'):
                    out[tuple(parts[:3])] = parts[3]
    return out


def key_of(one):
    """The same though lines move."""
    return one['file'], one['operator'], one['text'].strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--build', required=True, help='the build folder')
    parser.add_argument('--only', help='sources whose name contains this')
    parser.add_argument('--sample', type=int, help='only so many mutants, drawn at random')
    parser.add_argument('--seed', type=int, default=1, help='of the sample')
    parser.add_argument('--survivors', metavar='FILE.json', help='only mutants of the same text as survivors of that report')
    parser.add_argument('--named', action='store_true', help='only mutants named in survivors.txt')
    parser.add_argument('--jobs', type=int, default=2, help='processes at once')
    parser.add_argument('--goal', type=float, default=0.9, help='share to kill')
    parser.add_argument('--report', metavar='FILE.json', help='where to write the figures')
    given = parser.parse_args()
    build = os.path.abspath(given.build)
    names = sources(given.only)
    works = [(build, name, NUMBERS * at) for at, name in enumerate(names)]
    with multiprocessing.Pool(given.jobs) as pool:
        compiled = pool.map(compile_mutants, works, chunksize=1)
        checked = pool.map(compile_checked, [(build, name) for name in CHECKED])
    mutants = {m.number: m for found, _, _ in compiled for m in found}
    dropped = set().union(*(lost for _, lost, _ in compiled))
    program = link(build, [path for _, _, path in compiled] + checked, NUMBERS * len(names))
    met_file = os.path.join(build, 'mutation', 'met.txt')
    folder = tempfile.mkdtemp(prefix='mutants-', dir='/dev/shm' if os.path.isdir('/dev/shm') else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    seconds = -processor_seconds()
    subprocess.run([program, '--gtest_brief=1'], check=True,
                   env=dict(os.environ, MUTANT='-1', MUTANTS_MET=met_file, TMPDIR=folder))
    seconds += processor_seconds()
    met = read_met(met_file)
    chosen = [n for n in sorted(mutants) if n not in dropped]
    if given.survivors:
        with open(given.survivors, encoding='utf-8') as file:
            again = {key_of(one) for one in json.load(file)['survivors']}
        chosen = [n for n in chosen if key_of(vars(mutants[n])) in again]
    if given.named:
        named = reviewed()
        chosen = [n for n in chosen if key_of(vars(mutants[n])) in named]
    if given.sample:
        chosen = sorted(random.Random(given.seed).sample(chosen, min(given.sample, len(chosen))))
    print(f'{len(mutants)} mutants, {len(dropped)} do not compile, {len(chosen)} chosen; the cases '
          f'take {seconds:.2f} s of a processor', flush=True)
    killed, survivors, ways = {}, [], {}
    with multiprocessing.Pool(given.jobs) as pool:
        works = [(program, n, met[n], 10 + int(10 * seconds), folder) for n in chosen if n in met]
        for number, way in pool.imap_unordered(run_one, works, chunksize=4):
            if not way:
                one = mutants[number]
                print(f'survives {number}: {one.file}:{one.line}: {one.operator}: {one.text}',
                      flush=True)
                continue
            killed[number] = way
            ways[way] = ways.get(way, 0) + 1
    known = reviewed()
    rows = {}
    for number in chosen:
        mutant = mutants[number]
        for name in (mutant.operator, mutant.file):
            row = rows.setdefault(name, [0, 0])
            row[0] += 1
            row[1] += number in killed
        if number not in killed:
            reason = known.get(key_of(vars(mutant)), '')
            survivors.append({'file': mutant.file, 'line': mutant.line,
                              'operator': mutant.operator, 'text': mutant.text,
                              'met': number in met, 'number': number, 'reason': reason})
    for one in survivors:
        print(f"{one['file']}:{one['line']}: {one['operator']}: {one['text']}"
              f"{'' if one['met'] else ' (never met)'}{': ' + one['reason'] if one['reason'] else ''}")
    for name, (count, dead) in sorted(rows.items()):
        print(f'{name:35} {dead:5} of {count:5} killed {100 * dead / count:6.1f} %')
    share = len(killed) / max(1, len(chosen))
    print(f'{len(killed)} of {len(chosen)} killed ({100 * share:.1f} %): {ways}; not compiled '
          f'{len(dropped)}')
    if given.report:
        with open(given.report, 'w', encoding='utf-8') as file:
            json.dump({'mutants': len(mutants), 'not_compiled': len(dropped), 'run': len(chosen),
                       'killed': len(killed), 'share': share, 'survivors': survivors}, file,
                      indent=1)
    return 0 if share >= given.goal else 3


if __name__ == '__main__':
    sys.exit(main())
