"""What every page of Sparsight's stands in: one HTML file that fetches nothing."""

from __future__ import annotations

from html import escape


def page(title: str, style: str, main: str, script: str, data: str = "") -> str:
    """A whole page.

    Args:
        title: in words; escaped here.
        style: CSS.
        main: HTML of what the page shows; whatever it quotes is escaped already.
        script: run at the end; it finds an empty element "tip" for what the pointer is told.
        data: JSON for the script, in the element "data".
    """
    stored = f'<script type="application/json" id="data">{data}</script>\n' if data else ""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}; script-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} - Sparsight</title>
<style>{style}</style>
</head>
<body>
<main>
{main}
</main>
<div id="tip" role="status" hidden></div>
{stored}<script>{script}</script>
</body>
</html>
"""
