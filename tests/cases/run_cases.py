#!/usr/bin/env python3
"""Runs the text-driven cases of the command line.

  run_cases.py --program build/release/bin/loadstone [--only NAME] FILE.case ...

A file is blocks of `key value` lines; a line `case NAME` starts one, `#` is a comment. Keys:

  case NAME         its rule, as a test name
  needs WORD        shared (LOADSTONE_SHARED), model (examples/models/emoji), runtime, user (not
                    root): otherwise the case is skipped, visibly
  file NAME TEXT    a file in the case's folder; \\n is a line break
  setup COMMAND     shell, before the run; must succeed
  run COMMAND       shell; `loadstone` is the program, $SHARED, $MODEL and $SOURCE are folders
  exit N            expected exit code (default 0)
  out TEXT, err TEXT            stdout, stderr contains the text
  out~ REGEX, err~ REGEX        ... matches (multi-line; searched)
  not-out TEXT, not-err TEXT    ... doesn't contain it
  empty-out                     nothing on stdout
  check COMMAND     shell, after the run; must succeed
  leaves NAMES      the folder holds exactly these entries afterwards (beside setup's)

Every case runs in its own empty folder, removed afterwards. Exit: 0 passed, 1 failed, 77 all
skipped.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KEYS = {'needs', 'file', 'setup', 'run', 'exit', 'out', 'err', 'out~', 'err~', 'not-out',
        'not-err', 'empty-out', 'check', 'leaves'}


def read_cases(path):
    cases = []
    with open(path, encoding='utf-8') as lines:
        for number, line in enumerate(lines, 1):
            line = line.rstrip('\n')
            if not line.strip() or line.startswith('#'):
                continue
            key, _, value = line.partition(' ')
            if key == 'case':
                cases.append({'name': value.strip(), 'place': f'{path}:{number}', 'lines': []})
            elif key in KEYS and cases:
                cases[-1]['lines'].append((key, value.strip()))
            else:
                sys.exit(f'unknown key: {path}:{number}: found "{key}"')
    for case in cases:
        if not any(key == 'run' for key, _ in case['lines']):
            sys.exit(f'case without run: {case["place"]}')
    return cases


def values(case, key):
    return [value for name, value in case['lines'] if name == key]


def missing_need(case, environment):
    for need in values(case, 'needs'):
        if need == 'shared' and not os.path.isdir(environment['SHARED']):
            return 'no folder ' + environment['SHARED'] + ' (LOADSTONE_SHARED)'
        if need == 'model' and not os.path.isdir(environment['MODEL']):
            return 'no folder ' + environment['MODEL']
        if need == 'runtime' and environment['RUNTIME'] != '1':
            return 'a build without the runtime'
        if need == 'user' and os.geteuid() == 0:
            return 'root may write everywhere'
    return None


def shell(command, folder, environment, timeout):
    return subprocess.run(['bash', '-c', command], cwd=folder, env=environment, timeout=timeout,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors='replace', check=False)


def judge(case, result):
    problems = []
    expected = int((values(case, 'exit') or ['0'])[0])
    if result.returncode != expected:
        problems.append(f'exit code {result.returncode}, expected {expected}')
    for stream, text in (('out', result.stdout), ('err', result.stderr)):
        for value in values(case, stream):
            if value not in text:
                problems.append(f'std{stream} lacks: {value}')
        for value in values(case, stream + '~'):
            if not re.search(value, text, re.MULTILINE):
                problems.append(f'std{stream} matches nothing of: {value}')
        for value in values(case, 'not-' + stream):
            if value in text:
                problems.append(f'std{stream} has: {value}')
    if values(case, 'empty-out') and result.stdout:
        problems.append('stdout is not empty')
    return problems


def run_case(case, environment, timeout):
    folder = tempfile.mkdtemp(prefix='loadstone_case_')
    try:
        for value in values(case, 'file'):
            name, _, text = value.partition(' ')
            with open(os.path.join(folder, name), 'w', encoding='utf-8') as out:
                out.write(text.replace('\\n', '\n') + '\n')
        for command in values(case, 'setup'):
            done = shell(command, folder, environment, timeout)
            if done.returncode:
                return [f'setup failed: {command}: {done.stderr.strip()}'], done
        before = set(os.listdir(folder))
        try:
            result = shell(values(case, 'run')[0], folder, environment, timeout)
        except subprocess.TimeoutExpired:
            return [f'still running after {timeout} s'], None
        problems = judge(case, result)
        for command in values(case, 'check'):
            done = shell(command, folder, environment, timeout)
            if done.returncode:
                problems.append(f'check failed: {command}: {(done.stderr or done.stdout).strip()}')
        for wanted in values(case, 'leaves'):
            found = set(os.listdir(folder)) - before
            if found != set(wanted.split()):
                problems.append(f'left behind: {sorted(found)}, expected: {wanted.split()}')
        return problems, result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--program', required=True)
    parser.add_argument('--runtime', default='1', help='0: the program was built without it')
    parser.add_argument('--only', help='run the cases whose name contains this')
    parser.add_argument('--timeout', type=int, default=120)
    parser.add_argument('files', nargs='+')
    given = parser.parse_args()
    program = os.path.abspath(given.program)
    environment = dict(os.environ)
    environment.pop('LOADSTONE_PLUGIN_PATH', None)
    environment.update(
        PATH=os.path.dirname(program) + ':' + os.environ.get('PATH', ''), RUNTIME=given.runtime,
        SOURCE=SOURCE, MODEL=os.path.join(SOURCE, 'examples/models/emoji'),
        BUILD=os.path.dirname(os.path.dirname(program)),
        SHARED=os.path.abspath(os.environ.get('LOADSTONE_SHARED') or
                               os.path.join(SOURCE, '../shared')))
    passed = failed = skipped = 0
    for path in given.files:
        for case in read_cases(path):
            if given.only and given.only not in case['name']:
                continue
            reason = missing_need(case, environment)
            if reason:
                skipped += 1
                print(f'[ SKIPPED ] {case["name"]}: {reason}')
                continue
            problems, result = run_case(case, environment, given.timeout)
            if not problems:
                passed += 1
                print(f'[      OK ] {case["name"]}')
                continue
            failed += 1
            print(f'[  FAILED ] {case["name"]} ({case["place"]})')
            for problem in problems:
                print('    ' + problem)
            if result is not None:
                print('    stdout: ' + result.stdout[-2000:].strip().replace('\n', '\n      '))
                print('    stderr: ' + result.stderr[-2000:].strip().replace('\n', '\n      '))
    print(f'{passed} passed, {failed} failed, {skipped} skipped')
    if failed:
        return 1
    return 0 if passed else 77


if __name__ == '__main__':
    sys.exit(main())
