"""Errors of the streams.

StreamError
├── StreamProtocolError   the client broke the rules of SPDY or of the channel protocol; the connection ends
└── StreamClosed          the client is gone
"""

from __future__ import annotations


class StreamError(Exception):
    pass


class StreamProtocolError(StreamError):
    pass


class StreamClosed(StreamError):
    pass
