"""Tests of conditions.py: `python3 -B -m unittest discover tests/libsinsp/rules.d`."""

import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import conditions  # noqa: E402
from conditions import CONTAINER, HOST, RuleError  # noqa: E402


def rules_of(text):
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "rules.yaml")
        path.write_text(text)
        return conditions.RuleFile(path).rules


def condition_of(condition, others="", world=CONTAINER, rule=""):
    text = f"{others}\n- rule: tried\n  condition: >\n    {condition}\n{rule}"
    return rules_of(text)[0].condition(world)


MACROS = """
- list: inner
  items: [b, '"c d"', "e(f"]
- list: outer
  items: [a, inner]
- list: none
  items: []
- macro: opens
  condition: evt.type in (open, openat) or evt.type=creat
"""


class Conditions(unittest.TestCase):
    def test_a_macro_stands_as_one_operand(self):
        self.assertEqual(
            condition_of("opens and not opens", MACROS),
            "(evt.type in (open, openat) or evt.type = creat) and"
            " (not (evt.type in (open, openat) or evt.type = creat))",
        )

    def test_a_list_is_flattened_and_its_items_are_quoted_where_they_must_be(self):
        self.assertEqual(condition_of("proc.name in (outer, g)", MACROS), 'proc.name in (a, b, "c d", "e(f", g)')
        self.assertEqual(condition_of("proc.name in (none)", MACROS), "proc.name in ()")

    def test_a_name_in_the_place_of_a_value_is_no_name(self):
        for text in ("proc.name = opens", 'proc.name = "opens"', "proc.name contains opens"):
            self.assertEqual(condition_of(text, MACROS), text)

    def test_operators_stand_with_or_without_blanks(self):
        for text in ("fd.num>=0", "fd.num >=0", "fd.num>= 0", "fd.num >= 0"):
            self.assertEqual(condition_of(text), "fd.num >= 0")
        self.assertEqual(condition_of('proc.args="-Da=b c"'), 'proc.args = "-Da=b c"')
        self.assertEqual(condition_of("proc.aname[2] exists"), "proc.aname[2] exists")

    def test_and_binds_closer_than_or(self):
        self.assertEqual(condition_of("a.a=1 or a.b=2 and a.c=3"), "a.a = 1 or (a.b = 2 and a.c = 3)")
        self.assertEqual(condition_of("(a.a=1 or a.b=2) and a.c=3"), "(a.a = 1 or a.b = 2) and a.c = 3")

    def test_the_fields_of_the_plugin_are_decided_by_the_world(self):
        text = "a.a=1 and container.id != host and not container.image.repository in (x, y)"
        self.assertEqual(condition_of(text), "a.a = 1")
        self.assertIsNone(condition_of(text, world=HOST))
        self.assertEqual(condition_of("container.id != host"), "evt.num >= 0")
        self.assertIsNone(condition_of("not k8s.ns.name exists"))
        self.assertEqual(condition_of("a.a=1 or container.mount.dest[/proc*] = x"), "a.a = 1")

    def test_what_the_worlds_decided_is_told_once(self):
        rule = rules_of("- rule: r\n  condition: container.id=host or (a.a=1 and container.id=host)")[0]
        told = [(str(test), holds) for test, holds in rule.substituted(HOST)]
        self.assertEqual(told, [("container.id = host", True)])

    def test_later_entries_replace_append_and_override(self):
        one = "- macro: m\n  condition: a.a=1\n- list: l\n  items: [x]\n"
        for more, expected in {
            "- macro: m\n  condition: a.b=2\n": "a.b = 2 and a.c in (x)",
            "- macro: m\n  condition: or a.b=2\n  append: true\n": "(a.a = 1 or a.b = 2) and a.c in (x)",
            "- macro: m\n  condition: or a.b=2\n  override: {condition: append}\n": (
                "(a.a = 1 or a.b = 2) and a.c in (x)"
            ),
            "- list: l\n  items: [y]\n  override: {items: append}\n": "a.a = 1 and a.c in (x, y)",
            "- list: l\n  items: [y]\n  override: {items: replace}\n": "a.a = 1 and a.c in (y)",
        }.items():
            self.assertEqual(condition_of("m and a.c in (l)", one + more), expected)

    def test_exceptions_are_excluded(self):
        exceptions = """
  exceptions:
    - name: rows
      fields: [proc.name, fd.name]
      comps: [in, startswith]
      values: [[[a, b], /x], [c, /y z]]
    - name: column
      fields: user.name
      comps: in
      values: [d, e]
    - name: empty
      fields: [proc.name]
"""
        self.assertEqual(
            condition_of("a.a=1", rule=exceptions),
            'a.a = 1 and (not ((proc.name in (a, b) and fd.name startswith /x) or'
            ' (proc.name in (c) and fd.name startswith "/y z"))) and (not (user.name in (d, e)))',
        )

    def test_what_falco_would_not_take_is_an_error(self):
        loops = "- macro: m\n  condition: m\n- list: l\n  items: [l]\n"
        broken = ("unknown", "a.a=1 and", "a.a=1 a.b=2", "(a.a=1", "a.a ~ 1", 'a.a="x', "", "m", "a.a in (l)", "not")
        for text in broken:
            with self.subTest(text), self.assertRaises(RuleError):
                condition_of(text or "''", loops)


if __name__ == "__main__":
    unittest.main()
