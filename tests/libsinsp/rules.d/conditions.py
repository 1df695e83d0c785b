"""Reads a file of Falco rules and writes each rule's condition out in full: without macros, without lists, and without
the fields that only Falco's container plugin knows.

A condition is parsed into a tree, so that a name is replaced only where the language has a name there. A tree is True,
False, a Test, or a tuple of "and", "or" or "not" and its operands. A container.* or k8s.* test becomes True or False by
a World, which says what those fields would be: libsinsp alone does not have them.
"""

import dataclasses
import fnmatch
import re

import yaml

TOKEN = re.compile(r"""\s*("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[(),]|[^\s(),"']+)""")
# A field is a name, with an argument in brackets where it takes one.
FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*(?:\[[^\]]*\])?")
SYMBOLS = ("!=", ">=", "<=", "==", "=", ">", "<")
LIST_WORDS = ("in", "intersects", "pmatch")
VALUE_WORDS = (
    "contains", "icontains", "bcontains", "startswith", "bstartswith", "endswith", "glob", "iglob", "regex",
)  # fmt: skip
# What a bare word of a condition is made of: anything else is quoted when it is written.
BARE = re.compile(r"[A-Za-z0-9_./:+*@%\[\]-]+")
PLUGIN_FIELDS = ("container.", "k8s.")
# The depth to which macros and lists may name each other.
DEPTH_MAX = 64


class RuleError(Exception):
    """A rule file that is not what Falco would take."""


@dataclasses.dataclass(frozen=True)
class Test:
    """FIELD OPERATOR VALUE..., with the values as they stand in the condition; `exists` has none."""

    field: str
    operator: str
    values: tuple = ()

    def __str__(self):
        if self.operator == "exists":
            return f"{self.field} exists"
        if self.operator in LIST_WORDS:
            return f"{self.field} {self.operator} ({', '.join(self.values)})"
        return f"{self.field} {self.operator} {self.values[0]}"


@dataclasses.dataclass(frozen=True)
class World:
    """What the fields of the container plugin are where the rules are tried. A field that is not named is absent."""

    name: str
    fields: dict

    def holds(self, test):
        """What libsinsp would say of the test: of an absent field every one is false."""
        value = self.fields.get(test.field)
        if value is None:
            return False
        values = [unquoted(text) for text in test.values]
        checks = {
            "exists": lambda: True,
            "=": lambda: value == values[0],
            "==": lambda: value == values[0],
            "!=": lambda: value != values[0],
            "in": lambda: value in values,
            "contains": lambda: values[0] in value,
            "icontains": lambda: values[0].lower() in value.lower(),
            "startswith": lambda: value.startswith(values[0]),
            "endswith": lambda: value.endswith(values[0]),
            "glob": lambda: fnmatch.fnmatchcase(value, values[0]),
        }
        if test.operator not in checks:
            raise RuleError(f"no world tells whether {test}")
        return checks[test.operator]()


CONTAINER = World(
    "container",
    {
        "container.id": "c0ffee000001",
        "container.name": "tried",
        "container.privileged": "true",
        "container.image.repository": "registry.example/tried",
        "k8s.ns.name": "tried",
        "k8s.pod.name": "tried",
    },
)
HOST = World("host", {"container.id": "host", "container.name": "host"})


@dataclasses.dataclass
class Rule:
    name: str
    tree: object
    is_enabled: bool
    maturity: str

    def substituted(self, world):
        """The tests that the world decides, each with what it says."""
        tests = [test for test in leaves(self.tree) if test.field.startswith(PLUGIN_FIELDS)]
        return [(test, world.holds(test)) for test in dict.fromkeys(tests)]

    def condition(self, world):
        """The text of the condition in that world, or None where it can never hold there."""
        tree = in_world(self.tree, world)
        if tree is False:
            return None
        return "evt.num >= 0" if tree is True else written(tree)


def unquoted(text):
    if text[:1] in ("'", '"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def quoted(item):
    """An item of a list or an exception, as a condition has it: one that is quoted in the file stays so."""
    text = str(item)
    if BARE.fullmatch(text) or (len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def leaves(tree):
    if isinstance(tree, Test):
        yield tree
    elif isinstance(tree, tuple):
        for operand in tree[1:]:
            yield from leaves(operand)


def in_world(tree, world):
    if isinstance(tree, Test):
        return world.holds(tree) if tree.field.startswith(PLUGIN_FIELDS) else tree
    if isinstance(tree, bool):
        return tree
    operands = [in_world(operand, world) for operand in tree[1:]]
    if tree[0] == "not":
        return not operands[0] if isinstance(operands[0], bool) else ("not", operands[0])
    decides = tree[0] == "or"
    if any(operand is decides for operand in operands):
        return decides
    rest = [operand for operand in operands if not isinstance(operand, bool)]
    return joined(tree[0], rest) if rest else not decides


def joined(operator, operands):
    return operands[0] if len(operands) == 1 else (operator, *operands)


def written(tree):
    if isinstance(tree, Test):
        return str(tree)
    if tree[0] == "not":
        return f"not ({written(tree[1])})"
    return f" {tree[0]} ".join(
        f"({written(operand)})" if isinstance(operand, tuple) else written(operand) for operand in tree[1:]
    )


class Parser:
    """One condition, read by recursive descent. `file` tells what a name stands for."""

    def __init__(self, text, file, depth):
        self.tokens, self.file, self.depth, self.next = self.split(text), file, depth, 0
        if depth > DEPTH_MAX:
            raise RuleError("macros or lists that name each other without end")

    @staticmethod
    def split(text):
        tokens, at, end = [], 0, len(text.rstrip())
        while at < end:
            found = TOKEN.match(text, at)
            if not found:
                raise RuleError(f"no token at {text[at : at + 20]!r}")
            tokens.append(found[1])
            at = found.end()
        return tokens

    def peek(self):
        return self.tokens[self.next] if self.next < len(self.tokens) else None

    def take(self):
        token = self.peek()
        if token is None:
            raise RuleError("the condition ends too early")
        self.next += 1
        return token

    def expect(self, wanted):
        if (token := self.take()) != wanted:
            raise RuleError(f"{token!r} where {wanted!r} belongs")

    def parse(self):
        tree = self.disjunction()
        if self.peek() is not None:
            raise RuleError(f"{self.peek()!r} after the end of the condition")
        return tree

    def disjunction(self):
        return self.chain("or", lambda: self.chain("and", self.term))

    def chain(self, operator, operand):
        operands = [operand()]
        while self.peek() == operator:
            self.take()
            operands.append(operand())
        return joined(operator, operands)

    def term(self):
        token = self.take()
        if token == "not":
            return ("not", self.term())
        if token == "(":
            tree = self.disjunction()
            self.expect(")")
            return tree
        return self.test(token)

    def test(self, token):
        field = FIELD.match(token)
        if not field:
            raise RuleError(f"{token!r} where a field or a macro belongs")
        self.tokens[self.next : self.next] = filter(None, [token[field.end() :]])
        self.split_operator()
        name, operator = field[0], self.peek()
        if operator not in (*SYMBOLS, *LIST_WORDS, *VALUE_WORDS, "exists"):
            return self.file.macro(name, self.depth + 1)
        self.take()
        if operator == "exists":
            return Test(name, operator)
        if operator in LIST_WORDS:
            return Test(name, operator, tuple(self.items()))
        return Test(name, operator, (self.take(),))

    def split_operator(self):
        """An operator may stand without blanks: it becomes a token of its own, and so does what follows."""
        token = self.peek() or ""
        symbol = next((symbol for symbol in SYMBOLS if token.startswith(symbol)), "")
        if symbol and token != symbol:
            self.tokens[self.next : self.next + 1] = [symbol, token[len(symbol) :]]

    def items(self):
        self.expect("(")
        items = []
        while (token := self.take()) != ")":
            if token != ",":
                items += self.file.items(token, self.depth + 1)
        return items


class RuleFile:
    """The macros, the lists and the rules of one file, after what it appends and overrides."""

    def __init__(self, path):
        self.macros, self.lists, self.raw_rules, self.rules = {}, {}, {}, []
        kinds = {"macro": self.macros, "list": self.lists, "rule": self.raw_rules}
        with open(path, encoding="utf-8") as file:
            for entry in yaml.safe_load(file):
                kind = next((kind for kind in kinds if kind in entry), None)
                if kind is not None:
                    self.add(kinds[kind], entry[kind], entry)
        for name, raw in self.raw_rules.items():
            try:
                self.rules.append(self.rule(name, raw))
            except RuleError as error:
                raise RuleError(f"{path}: rule {name!r}: {error}") from error

    @staticmethod
    def add(table, name, entry):
        override = entry.get("override", {})
        if entry.get("append"):
            override = {key: "append" for key in ("condition", "items", "exceptions") if key in entry}
        if not override:
            table[name] = entry
            return
        if name not in table:
            raise RuleError(f"{name!r} is changed, but was never defined")
        for key, how in override.items():
            if how == "replace" or key not in table[name]:
                table[name][key] = entry[key]
            elif key == "condition":
                table[name][key] = f"{table[name][key]} {entry[key]}"
            else:
                table[name][key] = table[name][key] + entry[key]

    def rule(self, name, raw):
        tree = Parser(raw["condition"], self, 0).parse()
        exceptions = [self.exception(exception) for exception in raw.get("exceptions", [])]
        tree = joined("and", [tree, *(("not", exception) for exception in exceptions if exception is not False)])
        tags = [tag for tag in raw.get("tags", []) if tag.startswith("maturity_")]
        return Rule(name, tree, raw.get("enabled", True), tags[0].removeprefix("maturity_") if tags else "none")

    def exception(self, exception):
        """One exception as a tree: any of its rows, and of a row every field."""
        fields, rows = exception["fields"], exception.get("values", [])
        if not rows:
            return False
        if isinstance(fields, str):
            operator = exception.get("comps", "in")
            return Test(fields, operator, tuple(item for row in rows for item in self.items(quoted(row), 1)))
        operators = exception.get("comps", ["="] * len(fields))
        return joined("or", [joined("and", self.row(fields, operators, row)) for row in rows])

    def row(self, fields, operators, row):
        cells = [cell if isinstance(cell, list) else [cell] for cell in row]
        return [
            Test(field, operator, tuple(quoted(item) for item in cell))
            for field, operator, cell in zip(fields, operators, cells, strict=True)
        ]

    def macro(self, name, depth):
        if name not in self.macros:
            raise RuleError(f"{name!r} is no macro, and no operator follows it")
        return Parser(self.macros[name]["condition"], self, depth).parse()

    def items(self, token, depth):
        """What a word of a list stands for: itself, or the items of the list of that name."""
        if depth > DEPTH_MAX:
            raise RuleError(f"the list {token!r} names itself")
        if token not in self.lists:
            return [token]
        return [item for word in self.lists[token]["items"] for item in self.items(quoted(word), depth + 1)]
