"""From a line of a proof to a statement: relations between terms, as a small tree. Never evaluated as Python.

    n = 2k                       -> assumed, if the line says let, suppose, assume, given, where
    (n + 1)^2 - n^2 = 2n + 1     -> a claim
    x > 2 implies x^2 > 4        -> a claim with a premise; also "if A then B", "since A, B", "A => B", "A, so B", and
                                    "B for A", "B, where A"
    x is nonzero                 -> x != 0; also positive, negative, nonnegative
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

FUNCTIONS = ("sqrt", "exp", "log", "sin", "cos", "tan", "abs", "factorial")
LONGEST = 300
"""Longest line that is read, in characters."""
DEEPEST = 40
_SIGNS = {
    "²": "**2", "³": "**3", "·": "*", "×": "*", "−": "-", "–": "-", "≤": "<=", "≥": ">=", "≠": "!=", "^": "**",
    "⇒": "=>", "⟹": "=>", "→": "=>", "÷": "/", "$": " ", "`": " ", "\\cdot": "*", "\\leq": "<=", "\\geq": ">=",
    "\\le": "<=", "\\ge": ">=",
}  # fmt: skip
_LABEL = re.compile(r"^\s*(?:[-*•]\s+|\(?\d+[.):]\s+|(?:step|claim|line)\s*\d*\s*[:.)]\s*)+", re.IGNORECASE)
_WORDS = re.compile(
    r"^(?:so|thus|hence|then|therefore|now|also|and|but|note that|we have|we get|it follows that|clearly)\b"
    r"[\s,:]*", re.IGNORECASE,
)  # fmt: skip
_ASSUME = re.compile(r"^(?:let|suppose|assume|given|where|set|define)\b(?:\s+that)?[\s,:]*", re.IGNORECASE)
_TAIL = re.compile(
    r"(?:\s*,?\s+(?:for|by|because|since|where|as|which|with|using|from|if|when|whenever|provided)\b.*|\s*\([^()=<>]*[a-z]{3,}[^()=<>]*\)\s*)$",
    re.IGNORECASE,
)
_GIVEN = re.compile(
    r"\s*,?\s+(?:for|because|since|where|as|with|using|if|when|whenever|provided)\b\s+"
    r"(?:that\s+|(?:all|every|any|each|some)\s+)?([^()]*|.*[<>=].*)$", re.IGNORECASE,
)  # fmt: skip
_SIGN = re.compile(
    r"\b([A-Za-z]) (?:is|be)(?: an?)? (?:(?:real|whole|rational) )?(non-?zero|positive|negative|non-?negative)"
    r"(?: (?:real |whole |rational )?(?:number|integer))?(?![\w-])", re.IGNORECASE,
)  # fmt: skip
_SIGN_OF = {"nonzero": "!=", "positive": ">", "negative": "<", "nonnegative": ">="}
_FOREIGN = re.compile(
    r"(?<![A-Za-z])(?:(?:pi|sec|csc|cot|gcd|lcm|max|min|mod|det|dim|deg|lim|arg|sum|lg|erf)(?![A-Za-z])"
    r"|e\s*\*\*|e(?![A-Za-z]).*(?:exp|log)\b|(?:exp|log)\b.*(?<![A-Za-z])e(?![A-Za-z]))"
)
"""Names that the rules for products of letters would take apart, and the letter e where it may be Euler's number."""
_AMBIGUOUS = re.compile(
    r"/\s*(?:\d[\d.]*\s*[A-Za-z(]|\([^()]*\)\s*[\w(]"
    rf"|(?!(?:{'|'.join(FUNCTIONS)})\b)[A-Za-z]\s*[A-Za-z(])"
)
"""1/2x: is x below the line?"""
_IF = re.compile(r"^if\s+(.+?),?\s+then\s+(.+)$", re.IGNORECASE)
_SINCE = re.compile(r"^(?:since|because|as)\s+(.+?),\s*(?:we (?:have|get)\s+|so\s+)?(.+)$", re.IGNORECASE)
_SO = re.compile(r"\s*(?:=>|\bimplies\b|,\s*so\b|,\s*hence\b|,\s*thus\b|,\s*therefore\b)\s*(?:that\s+)?", re.IGNORECASE)
_AND = re.compile(r"\s+and\s+|\s*,\s*", re.IGNORECASE)
_ALL = re.compile(
    r"\bfor (?:all|any|every|each) (?:real (?:numbers? )?)?[A-Za-z](?:(?:\s*,\s*|\s+and\s+)[A-Za-z])*(?=[.,;:]|\s*$)",
    re.IGNORECASE,
)
"""Says nothing of a name: it stands for any number without that, too."""
_LETTER = re.compile(r"(?<![A-Za-z'’])[A-Za-z](?:_?\d{1,2})?(?![A-Za-z'’])")
_ARTICLE = re.compile(r"\b[AaI]\s+(?!and\b|or\b|is\b|be\b|are\b)[A-Za-z]{2}")
_PRODUCT = re.compile(
    r"(?<![A-Za-z])[a-z]{2,3}(?=\s{0,3}[-+*/^=<>≤≥≠²³)])"
    r"|(?<=[-+*/^=<>≤≥≠(\d])\s?[a-z]{2,3}(?![A-Za-z])"
)
_TERMS = (ast.BinOp, ast.UnaryOp, ast.Name, ast.Constant, ast.Call)
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.USub, ast.UAdd)
_RELATIONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


class Words(ValueError):
    """A line that is no statement this module can read; it is in words."""


@dataclass(frozen=True)
class Statement:
    """premises imply conclusion; `assumed`: it is not claimed but supposed from here on."""

    line: str
    conclusion: tuple[ast.Compare, ...]
    premises: tuple[ast.Compare, ...] = ()
    assumed: bool = False
    unread: frozenset[str] = frozenset()
    """Names of which words at its end say something: "for some k", "where x is prime"."""
    every: frozenset[str] = frozenset()
    """Names that it says it is true of whatever they are: "for all x"."""


def statement(line: str) -> Statement:
    """The statement of a line of text. Raises `Words`."""
    if len(line) > LONGEST:
        raise Words(f"it is longer than {LONGEST} characters")
    text = line
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    text = _LABEL.sub("", text).strip().rstrip(".;,").strip()
    text = _SIGN.sub(lambda found: f"{found[1]} {_SIGN_OF[found[2].lower().replace('-', '')]} 0", text)
    assumed = _ASSUME.match(text) is not None
    text = _ASSUME.sub("", text)
    tail: tuple[ast.Compare, ...] = ()
    unread: frozenset[str] = frozenset()
    every = frozenset(name for said in _ALL.findall(text) for name in _LETTER.findall(said))
    if not re.match(r"(since|because|as|if)\b", text, re.IGNORECASE):
        tail, unread = _given(text)
        while (shorter := _WORDS.sub("", _TAIL.sub("", text))) != text:
            text = shorter
    premise, conclusion = "", text
    if found := _IF.match(text) or _SINCE.match(text):
        premise, conclusion = found[1], found[2]
    elif len(parts := _SO.split(text, maxsplit=1)) == 2 and parts[0]:
        premise, conclusion = parts
    if _SO.search(conclusion):
        raise Words("it implies more than once")
    premises, claimed = _relations(premise) if premise else (), _relations(conclusion)
    if assumed:  # "let y = 1/x, where x != 0" supposes both
        return Statement(line, (*claimed, *tail), premises, assumed, unread)
    return Statement(line, claimed, (*premises, *tail), unread=unread, every=every)


def _given(text: str) -> tuple[tuple[ast.Compare, ...], frozenset[str]]:
    """What stands after "for", "where" or the like, if it is a formula; else none, it is left out as words, and they
    say something of these names."""
    found = _GIVEN.search(text)
    try:
        return (_relations(found[1]) if found else ()), frozenset()
    except Words:
        return (), mentioned(text[found.start() :] if found else "")


def mentioned(words: str) -> frozenset[str]:
    """The names of which words may say something: they are no formula, and may yet suppose one."""
    words = _ALL.sub(" ", words)
    letters = _LETTER.findall(_ARTICLE.sub(lambda found: found[0][1:], words))
    return frozenset(letters) | {letter for word in _PRODUCT.findall(words) for letter in word.strip()}


def _relations(text: str) -> tuple[ast.Compare, ...]:
    return tuple(_relation(part) for part in _AND.split(text.strip()) if part)


def _relation(text: str) -> ast.Compare:
    text = re.sub(r"(?<![A-Za-z])ln(?![A-Za-z])", "log", text)
    if found := _FOREIGN.search(text):
        raise Words(f"{found[0]!r} is not known here")
    if found := _AMBIGUOUS.search(text):
        raise Words(f"{found[0]!r} can be read in two ways: write parentheses")
    text = re.sub(r"(?<![<>=!])=(?!=)", "==", text)
    text = re.sub(r"(?<![\w.])(\d+)\s*(?=[A-Za-z(])", r"\1*", text)  # 2n, 2(n + 1)
    text = re.sub(r"\)\s*(?=[\w(])", ")*", text)  # (n)(n + 1)
    text = re.sub(r"\b[a-z]{2,3}\b", lambda word: word[0] if word[0] in FUNCTIONS else "*".join(word[0]), text)  # xy
    text = re.sub(r"\b([a-z])\s*\((?=[^)]*[+\-*/])", r"\1*(", text)  # n(n + 1)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Words("it is no formula") from error
    if not isinstance(tree, ast.Compare) or not all(isinstance(op, _RELATIONS) for op in tree.ops):
        raise Words("it states no relation")
    for term in (tree.left, *tree.comparators):
        _term(term, 0)
    return tree


def _term(node: ast.expr, depth: int) -> None:
    """Raises `Words` unless this is a term of numbers, variables of one letter, + - * / ** and known functions."""
    if depth > DEEPEST or not isinstance(node, _TERMS):
        raise Words(f"{type(node).__name__} is no term")
    if isinstance(node, (ast.BinOp, ast.UnaryOp)) and not isinstance(node.op, _OPERATORS):
        raise Words("an unknown operator")
    if isinstance(node, ast.Constant) and (isinstance(node.value, bool) or not isinstance(node.value, (int, float))):
        raise Words(f"{node.value!r} is no number")
    if isinstance(node, ast.Name) and not re.fullmatch(r"[A-Za-z](?:_?\d{1,2})?", node.id):
        raise Words(f"{node.id!r} is no variable: one letter, perhaps with a number")
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
        if not known or len(node.args) != 1 or node.keywords:
            raise Words("an unknown function")
        _term(node.args[0], depth + 1)
    elif isinstance(node, ast.BinOp):
        _term(node.left, depth + 1)
        _term(node.right, depth + 1)
    elif isinstance(node, ast.UnaryOp):
        _term(node.operand, depth + 1)


def variables(relations: tuple[ast.Compare, ...]) -> list[str]:
    """The names in them, in order, functions left out."""
    names = {n.id for r in relations for n in ast.walk(r) if isinstance(n, ast.Name) and n.id not in FUNCTIONS}
    return sorted(names)
