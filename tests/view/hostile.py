"""Texts that would do harm if they were taken for anything but text."""

MARK = "hostile-was-here"
"""An element of this id, or a title or global of this name, appears only if something of it ran."""
RUN = f"document.title='{MARK}';window['{MARK}']=1"
TEXTS = {
    "script": f"<script>{RUN}</script>",
    "handler": f'<img src=x onerror="{RUN}"><svg onload="{RUN}">',
    "attribute": f'" autofocus onfocus="{RUN}" x="',
    "single quotes": f"' onmouseover='{RUN}' '",
    "link": f'<a href="javascript:{RUN}" id="{MARK}">look</a> javascript:{RUN}',
    "closing tags": "</pre></span></li></ul></div></main></body></html><h1>over</h1>",
    "closing script": f"</script><script>{RUN}</script><!--",
    "style": f"<style>*{{display:none}}</style><div id={MARK} style='position:fixed;inset:0'>",
    "frame": f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe><object data="data:text/html,x"></object>',
    "meta": '<meta http-equiv="refresh" content="0;url=http://evil.example/"><base href="http://evil.example/">',
    "form": '<form action="http://evil.example/"><button autofocus>Close</button></form>',
    "template": "{{ 7 * 7 }} {% for x in y %} ${7*7} #{7*7} {{ config }}",
    "bidi": "safe \u202e\u2066 gnp.exe \u2069\u202d \u200f\u061c end",
    "ansi": "\x1b[2J\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\ \x9b1m",
    "controls": "".join(map(chr, range(32))) + "\x7f\x85\u2028\u2029 after the NUL",
    "rich": "[bold red]x[/bold red] [link=http://evil.example]y[/link] [/] \\[x] :smile:",
    "zalgo": "h" + "\u0301\u0322\u0489" * 200,
    "wide": "﷽𒐫" * 100,
    "invalid": b"\xff\xfe\xc3\x28 caf\xe9".decode("utf-8", "replace"),
    "zero width": "a\u200b\u200c\u200d\u2060\ufeffb",
    "emptiness": " \n\t \u00a0 ",
    "entities": "&lt;script&gt; &amp;#x27; &#0; &nbsp;",
}
LONG_LINE = "x" * 1_000_000
