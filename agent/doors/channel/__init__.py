"""The door of an app that fetches its releases by itself."""
