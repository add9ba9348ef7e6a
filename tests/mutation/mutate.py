#!/usr/bin/python3
"""Finds the places of the fixed mutation operators in C++ sources and writes copies that hold all
mutants behind a run-time switch (run.py --help says which operators).

Needs Debian's python3-clang-14.
"""
import re

import clang.cindex as ci

COMPARISONS = {'<': ('less', 'less_or_equal'), '<=': ('less_or_equal', 'less'),
               '>': ('greater', 'greater_or_equal'), '>=': ('greater_or_equal', 'greater')}
K = ci.CursorKind
FUNCTIONS = {K.FUNCTION_DECL, K.CXX_METHOD, K.LAMBDA_EXPR, K.CONVERSION_FUNCTION,
             K.FUNCTION_TEMPLATE}


class Edit:
    """Text put before (`open`) and after (`close`) a range; nested ranges nest."""

    def __init__(self, begin, end, opening, closing):
        self.begin, self.end, self.opening, self.closing = begin, end, opening, closing


class Mutant:
    def __init__(self, number, operator, file, line, begin, end, text):
        self.number, self.operator, self.file, self.line = number, operator, file, line
        self.begin, self.end, self.text = begin, end, text


class File:
    """One source with its mutants, numbered from `first`."""

    def __init__(self, path, name, arguments, first):
        self.path, self.name, self.first = path, name, first
        with open(path, 'rb') as source:
            self.bytes = source.read()
        self.mutants, self.edits, self.seen = [], {}, set()
        unit = ci.Index.create().parse(path, args=arguments)
        errors = [d for d in unit.diagnostics if d.severity >= ci.Diagnostic.Error]
        if errors:
            raise SystemExit(f'{path}: {errors[0]}')
        self.visit(unit.cursor, False)
        self.checks()

    # ---- places -------------------------------------------------------------------------------

    def visit(self, cursor, inside):
        for child in cursor.get_children():
            place = child.location.file
            if cursor.kind == K.TRANSLATION_UNIT and (not place or place.name != self.path):
                continue
            self.take(child, cursor, inside)
            self.visit(child, inside or child.kind in FUNCTIONS or child.kind == K.CONSTRUCTOR)

    def range(self, cursor):
        return cursor.extent.start.offset, cursor.extent.end.offset

    def text(self, begin, end):
        return self.bytes[begin:end].decode()

    def in_macro(self, cursor):
        begin, end = self.range(cursor)
        return end <= begin or self.bytes[begin:begin + 3] == b'LS_'

    def take(self, cursor, parent, inside):
        place = cursor.location.file
        if not place or place.name != self.path or self.in_macro(cursor):
            return
        key = (cursor.kind, self.range(cursor), parent.kind if cursor.kind == K.COMPOUND_STMT else 0)
        if key in self.seen:
            return
        self.seen.add(key)
        children = list(cursor.get_children())
        if cursor.kind == K.COMPOUND_STMT and (parent.kind in FUNCTIONS):
            self.early_return(cursor, parent)
        if cursor.kind == K.COMPOUND_STMT:
            self.swapped_statements(children)
        if not inside and cursor.kind not in FUNCTIONS:
            return
        if cursor.kind == K.IF_STMT:
            self.condition(cursor, children)
        elif cursor.kind == K.CONDITIONAL_OPERATOR and len(children) == 3:
            self.wrap('swap an order', children[0], '({on} != static_cast<bool>(', '))')
        elif cursor.kind == K.INTEGER_LITERAL and parent.kind != K.CASE_STMT:
            if not self.text(*self.range(cursor))[:1].isdigit():
                return  # the 0 that C++ compares the answer of <=> with
            self.wrap('off by one', cursor, '(', ' + {on})')
        elif cursor.kind in (K.BINARY_OPERATOR, K.CALL_EXPR):
            self.operator(cursor, children)

    def add(self, kind, begin, end, opening, closing, line, bytewise=''):
        number = self.first + len(self.mutants)
        on = f'::mutation::on({number})'
        self.mutants.append(Mutant(number, kind, self.name, line, begin, end,
                                   bytewise or ' '.join(self.text(begin, end).split())[:90]))
        self.edits[number] = Edit(begin, end, opening.replace('{on}', on),
                                  closing.replace('{on}', on))

    def wrap(self, kind, cursor, opening, closing):
        begin, end = self.range(cursor)
        if not self.in_macro(cursor):
            self.add(kind, begin, end, opening, closing, cursor.extent.start.line)

    def operator(self, cursor, children):
        """Comparisons and logic, written with built-in or overloaded operators."""
        if cursor.kind == K.CALL_EXPR:
            if not cursor.spelling.startswith('operator') or len(children) != 3:
                return
            children = [children[0], children[2]]
        if len(children) != 2:
            return
        begin, end = children[0].extent.end.offset, children[1].extent.start.offset
        sign = self.text(begin, end).strip() if begin < end else ''
        line = cursor.extent.start.line
        if sign in ('==', '!=') or sign in COMPARISONS:
            first, last = self.range(cursor)
            self.add('flip a comparison', first, last, '({on} != (', '))', line)
        if sign in COMPARISONS:
            self.boundary(children, sign, line)
        if sign == '&&':
            for child in children:
                self.wrap('drop a check', child, '({on} || (', '))')
        if sign == '||':
            for child in children:
                self.wrap('drop a check', child, '(!{on} && (', '))')

    def boundary(self, children, sign, line):
        """a < b becomes less<17>(a, b), which is a <= b under mutant 17."""
        begin, end = children[0].extent.start.offset, children[1].extent.end.offset
        middle = self.text(children[0].extent.end.offset, children[1].extent.start.offset)
        number = self.first + len(self.mutants)
        self.add('off by one', begin, end, f'::mutation::{COMPARISONS[sign][0]}<{number}>(', ')',
                 line)
        self.edits[number].comma = (children[0].extent.end.offset, len(middle))

    def condition(self, cursor, children):
        """An if's body never runs; with an else, the branches change places."""
        line = cursor.extent.start.line
        if children[0].kind == K.VAR_DECL:
            begin, end = self.range(children[0])
            self.add('drop a check', begin, end, '',
                     f'; !{{on}} && static_cast<bool>({children[0].spelling})', line)
            return
        if children[0].kind == K.DECL_STMT:  # if (init; condition)
            children = children[1:]
        self.wrap('drop a check', children[0], '(!{on} && static_cast<bool>(', '))')
        if len(children) == 3:
            self.wrap('swap an order', children[0], '({on} != static_cast<bool>(', '))')

    def early_return(self, body, function):
        begin = body.extent.start.offset + 1
        if function.kind == K.LAMBDA_EXPR or not self.text(begin, body.extent.end.offset - 1).strip():
            return
        spelling = function.result_type.spelling
        inner = re.fullmatch(r'(?:\w+::)*Result<(.*)>', spelling)
        value = f' {inner[1]}{{}}' if inner else ' {}'
        if function.result_type.get_canonical().kind == ci.TypeKind.VOID:
            value = ''
        self.add('return early', begin, begin, f' if ({{on}}) return{value};', '',
                 body.extent.start.line, function.spelling)

    def swapped_statements(self, children):
        """Two calls in a row change places."""
        at = 0
        while at + 1 < len(children):
            first, second = children[at], children[at + 1]
            if not (self.is_call(first) and self.is_call(second)):
                at += 1
                continue
            begin, end = first.extent.start.offset, self.after(second)
            number = self.first + len(self.mutants)
            self.add('swap an order', begin, end, '', '', first.extent.start.line)
            self.edits[number].swap = (begin, self.after(first), second.extent.start.offset, end)
            at += 2

    def is_call(self, cursor):
        if self.in_macro(cursor) or cursor.kind not in (K.CALL_EXPR, K.UNEXPOSED_EXPR):
            return False
        text = self.text(*self.range(cursor))
        return not text.startswith('LS_') and text.endswith(')')

    def after(self, cursor):
        return self.bytes.index(b';', cursor.extent.end.offset) + 1

    def checks(self):
        """LS_CHECK(f()): f isn't called."""
        at = 0
        while (at := self.bytes.find(b'LS_CHECK(', at)) >= 0:
            begin, depth, end = at + 9, 1, at + 9
            while depth:
                depth += {40: 1, 41: -1}.get(self.bytes[end], 0)
                end += 1
            line = self.bytes[:at].count(b'\n') + 1
            self.add('drop a check', begin, end - 1, '({on} ? ::loadstone::Status() : (', '))', line)
            at = end

    # ---- the mutated text -----------------------------------------------------------------------

    def write(self, dropped):
        """(text, [(begin, end, number)] of what each mutant put into it), without the dropped."""
        edits = [(n, e) for n, e in self.edits.items() if n not in dropped]
        out, spans = [], []
        self.length = 0

        def put(data):
            out.append(data)
            self.length += len(data)

        def emit(begin, end, pending):
            """The range with the edits in it, outermost first."""
            at = begin
            while pending:
                number, edit = pending[0]
                inner = [p for p in pending[1:] if p[1].begin < edit.end and p[1].end <= edit.end
                         and edit.begin != edit.end]
                rest = [p for p in pending[1:] if p not in inner]
                put(self.bytes[at:edit.begin])
                start = self.length
                if hasattr(edit, 'swap'):
                    first, after, second, last = edit.swap
                    left = [p for p in inner if p[1].end <= after]
                    right = [p for p in inner if p[1].begin >= second]
                    on = f'if (::mutation::on({number})) {{ '.encode()
                    put(on)
                    emit(second, last, list(right))
                    put(b' ')
                    emit(first, after, list(left))
                    put(b' } else { ')
                    emit(first, after, list(left))
                    put(b' ')
                    emit(second, last, list(right))
                    put(b' }')
                elif hasattr(edit, 'comma'):
                    comma, width = edit.comma
                    put(edit.opening.encode())
                    emit(edit.begin, comma, [p for p in inner if p[1].end <= comma])
                    put(b', ')
                    emit(comma + width, edit.end, [p for p in inner if p[1].begin >= comma + width])
                    put(edit.closing.encode())
                else:
                    put(edit.opening.encode())
                    emit(edit.begin, edit.end, inner)
                    put(edit.closing.encode())
                spans.append((start, self.length, number))
                at = edit.end
                pending = rest
            put(self.bytes[at:end])

        # Wider first; of equal ranges the later found (inner by construction) is inside.
        edits.sort(key=lambda p: (p[1].begin, -p[1].end, p[0]))
        # An insertion point at an edit's begin goes before it.
        emit(0, len(self.bytes), edits)
        return b''.join(out), spans
