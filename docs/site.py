"""What mkdocs does not do by itself: pages link to sources outside of docs/, which the site holds
as copies under source/.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parent.parent
OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:benchmarks|examples|requirements)/[^)#]+|[A-Z]+\.md)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the sources that pages link to."""
    for page in [file for file in files if file.is_documentation_page()]:
        for path in OUTSIDE.findall(page.content_string):
            target = _copy_of(path)
            if (REPOSITORY / path).is_file() and not files.get_file_from_path(target):
                files.append(File.generated(config, target, abs_src_path=str(REPOSITORY / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at the copies."""
    up = "../" * page.file.src_uri.count("/")
    return OUTSIDE.sub(lambda found: f"]({up}{_copy_of(found[1])})", markdown)


def _copy_of(path: str) -> str:
    # A page of the site would be rendered; a text is shown as it is.
    return f"source/{path}.txt"
