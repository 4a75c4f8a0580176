"""The file `REVISION` of a release: its version, and the commit it comes from.

Invariant: the first line is the version and nothing else, so that `read -r VERSION <REVISION` reads it.
"""

from pusher.wire import Source, format_timestamp


def revision(version: str, source: Source | None) -> str:
    """The content of the file: after the version, a line `name value` for each thing that the signer says."""
    lines = [version]
    if source is not None:
        authored = "" if source.authored is None else format_timestamp(source.authored)
        facts = {
            "commit": source.commit,
            "changed": str(source.changed),
            "branch": source.branch,
            "authored": authored,
            "remote": source.remote,
        }
        lines += [f"{name} {value}" for name, value in facts.items() if value]
    return "".join(f"{line}\n" for line in lines)


def version_of(text: str) -> str:
    """The version in the content of the file."""
    return text.partition("\n")[0].strip()
