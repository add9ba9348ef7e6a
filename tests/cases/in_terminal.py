#!/usr/bin/env python3
"""in_terminal.py COMMAND...: runs it with a terminal for its streams, copies what it shows."""
import os
import pty
import sys

os.environ['TERM'] = 'xterm'
status = pty.spawn(sys.argv[1:], lambda fd: os.read(fd, 4096), lambda fd: b'')
sys.exit(os.waitstatus_to_exitcode(status))
