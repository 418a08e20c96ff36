"""The release, in one place for the plugin, the HTTP API and the package."""

VERSION = "0.1.0"
