"""How Sphinx builds the site: `make docs` writes it to docs/_build/html, and every warning is an error.

Its sources are those of the whole repository (`sphinx-build -c docs . docs/_build/html`), so that a link from one file
to another is the same here and where the repository is looked at.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "lit_fed"
author = "The lit_fed authors"
project_copyright = "The lit_fed authors"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "tools.documentation.api_pages",
    "tools.documentation.configurations_page",
    "tools.documentation.folder_links",
    "tools.documentation.llms_txt",
    "tools.documentation.mathml",
]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/**/*.md", "docs/api/*.rst", "notebooks/*.md"]
exclude_patterns = [
    *("docs/_build", "notebooks/.ipynb_checkpoints"),
    # searched for no pages, and some of them large
    *(
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and path.name not in ("docs", "notebooks")
    ),
]
suppress_warnings = [
    # Two packages have a TopK: an annotation says which by its import, which Sphinx does not follow.
    "ref.python",
]

# ---------------------------------------------------------------- Markdown and notebooks

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_fence_as_directive: list[str] = []
nb_execution_mode = "cache" if os.environ.get("EXECUTE") == "1" else "off"
nb_execution_timeout = 180
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars and notes of libraries

# ---------------------------------------------------------------- the API

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries = False

# ---------------------------------------------------------------- HTML

smartquotes = False  # two hyphens are an option of the command line
html_theme = "furo"
html_title = "lit_fed"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_extra"]
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
