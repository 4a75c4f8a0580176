"""An app's environment file as it lies on this host."""

from agent.core.config.app import AppConfig
from agent.core.environment_file import parse_environment_file
from agent.core.layout import HostLayout
from pusher.wire import Refused


def unusable_environment(config: AppConfig, layout: HostLayout) -> str:
    """What to say about an app's environment file that systemd cannot use; empty if it can, or nobody may see it.

    systemd drops a line that it cannot read, with a word in its journal, and the app runs without it.
    """
    if not config.environment_file:
        return ""
    path = layout.beneath(config.environment_file)
    try:
        parse_environment_file(path.read_bytes().decode(), file=str(path))
    except (FileNotFoundError, NotADirectoryError):
        return f"its environment file {path} does not exist, and systemd starts nothing without it"
    except UnicodeDecodeError:
        return f"its environment file {path} is not UTF-8"
    except Refused as problem:
        return str(problem)
    except OSError:
        pass  # secrets are often in a folder that only root may enter
    return ""
