"""Some 200 environment files, most of them odd: quotes, continuation, `$`, `%`, `#`, tabs, Unicode, 100 KB."""

import random

PLAIN: dict[str, dict[str, str]] = {
    "": {},
    "# a\n; b\n\n   \nA=1": {"A": "1"},
    "A=1\r\n B = two words  \r\nC=\n": {"A": "1", "B": "two words", "C": ""},
    "A='x y'\"z\" w\n": {"A": "x yzw"},
    "A='one\ntwo'\nB=1": {"A": "one\ntwo", "B": "1"},
    'A="\\"q\\" \\$X \\n joi\\\nned"\n': {"A": '"q" $X \\n joined'},
    "A=one\\\ntwo\nB=b": {"A": "onetwo", "B": "b"},
    "A=kept\\ \nB=b\\\\": {"A": "kept ", "B": "b\\"},
    'A=a"b"c # no comment\n': {"A": 'a"b"c # no comment'},
    "A=cut\\": {"A": "cut"},
    "A=1\nA=2": {"A": "2"},
    "A=$HOME ${HOME} $$ %h %% `id`\n": {"A": "$HOME ${HOME} $$ %h %% `id`"},
    "A='$HOME'\nB=\"$HOME\"\nC='it''s'\n": {"A": "$HOME", "B": "$HOME", "C": "its"},
    'A=\ttab\tin\t\nB="\tx\t"\n': {"A": "tab\tin", "B": "\tx\t"},
    "A=grün 日本 🚀\n": {"A": "grün 日本 🚀"},
    "A=x=y==\n": {"A": "x=y=="},
    "A= # x\nB=a;b\n": {"A": "# x", "B": "a;b"},
    "A=trailing\\\n  spaces\n": {"A": "trailing  spaces"},
    "A='a' 'b'  \"c\"  \n": {"A": "abc"},
    "A=" + "x" * 100_000 + "\nB=1\n": {"A": "x" * 100_000, "B": "1"},
    "A=postgres://u:p%40ss@db/x?a=b&c=d#frag\n": {"A": "postgres://u:p%40ss@db/x?a=b&c=d#frag"},
    'A={"a": "b", "c": [1]}\n': {"A": '{"a": "b", "c": [1]}'},
    "A=\\\\srv\\\\x\n": {"A": "\\srv\\x"},
    "# a comment \\\n# goes on\nA=1\n": {"A": "1"},
}

_ALPHABET = [*"A=x \t'\"\\$%#;\n\né`", "B=", "\nC=", "\r\n"]


def odd() -> list[str]:
    """The same 180 files each time, made of what is odd."""
    chosen = random.Random(20261127)
    return ["A=" + "".join(chosen.choices(_ALPHABET, k=chosen.randint(1, 24))) + "\n" for _ in range(180)]
