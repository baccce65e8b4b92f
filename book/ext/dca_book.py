"""What the book needs from Sphinx beyond its extensions.

Sphinx reads a page again when its source file changed. A chapter's outputs also change when ``dca_lab`` does: this
extension marks such pages as outdated, by the time at which each cached result was made.

docutils marks the bibliography as an ARIA list whose children are not list items: the role is taken off, since
a screen reader would announce a list of nothing.

Jupyter Book loads sphinx-thebe even when it is switched off, and that puts a script from a CDN on every page, twice:
it is taken out again.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from jupyter_cache import get_cache


def _made_at(path: Path, cache) -> str | None:
    try:
        return str(cache.match_cache_notebook(nbformat.read(path, as_version=4)).created)
    except KeyError:
        return None


def mark_outdated(app, env, added, changed, removed):
    """Names of the pages whose cached result is not the one that they were last rendered from."""
    cache = get_cache(app.config.nb_execution_cache_path or Path(app.outdir).parent / ".jupyter_cache")
    before = getattr(env, "dca_results_made", {})
    made = {}
    for name in env.found_docs:
        path = Path(env.doc2path(name))
        if path.suffix == ".ipynb":
            made[name] = _made_at(path, cache)
    env.dca_results_made = made
    return [name for name, when in made.items() if before.get(name) != when and name not in added]


def drop_thebe(app, pagename, templatename, context, doctree):
    """Take thebe's scripts and styles off a page: nothing on it uses them."""

    def is_thebe(asset) -> bool:
        return (
            "thebe" in f"{asset} {getattr(asset, 'filename', '')} {getattr(asset, 'attributes', '')}".lower()
        )

    for kind in ("script_files", "css_files"):
        if kind in context:
            context[kind][:] = [asset for asset in context[kind] if not is_thebe(asset)]


def mend_bibliography(app, pagename, templatename, context, doctree):
    """Take the ARIA list role off the bibliography."""
    if "body" in context:
        context["body"] = context["body"].replace(
            'role="list" class="citation-list"', 'class="citation-list"'
        )


def setup(app):
    app.connect("html-page-context", mend_bibliography)
    app.connect("html-page-context", drop_thebe, priority=900)  # after the extension that adds them
    app.connect("env-get-outdated", mark_outdated)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
