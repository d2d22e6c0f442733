"""ingest from web addresses with OAuth 2.0: tokens are fetched, renewed before they expire, and once more when they are refused."""

import base64
import json
import urllib.parse

import pytest

import support
from test_ingest_http import QUICK, Server, as_json


class Guarded:
    """Gives tokens at /token and an event at all else, for the token that was given last."""

    def __init__(self, expires=3600):
        self.expires, self.asked, self.given, self.valid = expires, [], 0, None
        self.token_answer = None

    def __call__(self, request):
        if request.path == "/token":
            form = dict(urllib.parse.parse_qsl(request.body.decode(), strict_parsing=True))
            self.asked.append((form, request.headers.get("Authorization"), request.command))
            if self.token_answer:
                return self.token_answer
            self.given += 1
            self.valid = f"hush-{self.given}"
            return as_json({"access_token": self.valid, "token_type": "Bearer", "expires_in": self.expires, "refresh_token": f"hush-again-{self.given}"}
                           if "refresh_token" in form else {"access_token": self.valid, "expires_in": self.expires})
        if request.headers.get("Authorization") != f"Bearer {self.valid}":
            return 401, {}, b"no"
        return as_json({"n": self.given})


CLIENT = ("--oauth-id", "me&you", "--oauth-secret", "hush:1")


@pytest.mark.parametrize("place", ["header", "body"])
def test_client_credentials(tools, place):
    guarded = Guarded()
    with Server(guarded) as server:
        tool = tools.run("ingest", server.url("/events"), "--once", "--oauth-url", server.url("/token"), *CLIENT, "--oauth-secret-in", place,
                         "--oauth-scope", "read write", "--oauth-param", "audience=a&b")
    assert tool.events == [{"n": 1}], tool.err
    form, header, method = guarded.asked[0]
    assert method == "POST" and len(guarded.asked) == 1
    wanted = {"grant_type": "client_credentials", "scope": "read write", "audience": "a&b"}
    if place == "body":
        assert form == {**wanted, "client_id": "me&you", "client_secret": "hush:1"} and header is None
    else:
        assert form == wanted and base64.b64decode(header.split()[1]) == b"me%26you:hush%3A1"


def test_refresh_token_and_its_successors(tools):
    guarded = Guarded(expires="1")
    with Server(guarded) as server:
        tool = tools.start("ingest", server.url("/events"), *QUICK, "--oauth-url", server.url("/token"), "--oauth-id", "me", "--oauth-refresh-token", "first")
        support.wait_for(lambda: len(guarded.asked) >= 3, "tokens")
        assert tool.terminate() == 0
    assert [form["refresh_token"] for form, _, _ in guarded.asked[:3]] == ["first", "hush-again-1", "hush-again-2"]
    assert guarded.asked[0][0]["grant_type"] == "refresh_token" and guarded.asked[0][0]["client_id"] == "me"


def test_token_is_renewed_before_it_expires(tools):
    guarded = Guarded(expires=1)
    with Server(guarded) as server:
        tool = tools.start("ingest", server.url("/events"), *QUICK, "--oauth-url", server.url("/token"), *CLIENT)
        support.wait_for(lambda: {"n": 3} in tool.events, "events of the third token")
        assert tool.terminate() == 0
    assert "401" not in tool.err


def test_refused_token_is_fetched_once_more(tools):
    guarded = Guarded()
    with Server(guarded) as server:
        tool = tools.start("ingest", server.url("/events"), *QUICK, "--oauth-url", server.url("/token"), *CLIENT)
        tool.wait_events(1)
        guarded.valid = "withdrawn"
        support.wait_for(lambda: {"n": 2} in tool.events, "events of the second token")
        assert tool.terminate() == 0
    assert "401" not in tool.err and len(guarded.asked) == 2


def test_server_that_refuses_every_token_is_asked_slowly(tools):
    guarded = Guarded()

    def answer(request):
        return guarded(request) if request.path == "/token" else (401, {}, b"")
    with Server(answer) as server:
        tool = tools.start("ingest", server.url("/events"), "--oauth-url", server.url("/token"), *CLIENT, "--retry-min", "1h", "--retry-max", "1h")
        tool.wait_err("401.*--oauth-url")
        assert tool.terminate() == 0
    assert len(guarded.asked) == 2 and len(server.requests) == 4


@pytest.mark.parametrize("answer, reason", [
    ((400, {}, b'{"error":"invalid_client","error_description":"x"}'), "answers 400, invalid_client"),
    ((503, {}, b"<html>"), "answers 503"),
    ((200, {}, b'{"token":"x"}'), "holds none"),
    ((200, {}, b'{"access_token":"a\\r\\nEvil: x"}'), "holds none"),
    ((200, {}, b'[1]'), "holds none"),
    ((302, {"Location": "/events"}, b""), "redirect|answers 302"),
])
def test_no_token_is_told_and_tried_again(tools, answer, reason):
    guarded = Guarded()
    guarded.token_answer = answer
    with Server(guarded) as server:
        tool = tools.start("ingest", server.url("/events"), *QUICK, "--oauth-url", server.url("/token"), *CLIENT)
        tool.wait_err(f"no token.*({reason})|{reason}")
        guarded.token_answer = None
        tool.wait_events(1)
        assert tool.terminate() == 0
        assert not any("Evil" in request[1] for request in server.requests)


def test_token_server_that_is_down_is_waited_for(tools):
    port = support.free_port()
    guarded = Guarded()
    with Server(guarded) as server:
        tool = tools.start("ingest", server.url("/events"), *QUICK, "--oauth-url", f"http://127.0.0.1:{port}/token", *CLIENT)
        tool.wait_err("no token")
        with Server(guarded, port):
            tool.wait_events(1)
        assert tool.terminate() == 0


def test_secrets_are_never_shown(tools, directory):
    guarded = Guarded(expires=1)
    with Server(guarded) as server:
        (directory / "s.json").write_text(json.dumps({"url": server.url("/events"), "oauth_url": server.url("/token"), "oauth_id": "me",
                                                      "oauth_secret": "hush-secret", "oauth_refresh_token": "hush-refresh"}))
        tool = tools.start("ingest", "--settings", "s.json", *QUICK, "--log-level", "debug", "--metrics", "m")
        support.wait_for(lambda: len(guarded.asked) >= 2, "tokens")
        guarded.token_answer = (400, {}, b'{"error":"invalid_grant"}')
        tool.wait_err("invalid_grant")
        assert tool.terminate() == 0
    assert b"hush" not in tool.err.encode() + (directory / "m").read_bytes()


@pytest.mark.parametrize("options, reason", [
    (("--oauth-id", "x"), "needs --oauth-url"),
    (("--oauth-url", "http://h/t", "--oauth-id", "x"), "--oauth-secret"),
    (("--oauth-url", "ftp://h/t", "--oauth-id", "x", "--oauth-secret", "y"), "http://"),
    (("--oauth-url", "http://h/t", "--oauth-id", "x", "--oauth-secret", "y", "--token", "z"), "neither"),
    (("--oauth-url", "http://h/t", "--oauth-id", "x", "--oauth-secret", "y", "--oauth-param", "z"), "NAME=VALUE"),
])
def test_options_that_do_not_fit_are_refused_at_once(tools, options, reason):
    tool = tools.run("ingest", "http://127.0.0.1:1/", *options)
    assert tool.status == 64 and reason in tool.err, tool.err
