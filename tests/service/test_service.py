from __future__ import annotations

import functools

import pytest

from fastws import ws
from fastws.errors import ConfigurationError
from fastws.options import UpgradeOptions
from fastws.service.compile import compile
from fastws.service.marks import UpgradePath, mark_class, mark_method
from fastws.service.model import Service


def base_path(path):
    return lambda cls: mark_class(cls, "base_path", path)


def upgrade_path(path, **options):
    return lambda cls: mark_class(cls, "upgrade_path", UpgradePath(path, UpgradeOptions(**options)))


def on(event):
    return lambda function: mark_method(function, event)


def websocket(**methods) -> type:
    """A service at /chat/{room}/websocket with these methods."""
    cls = type("Chat", (), methods)
    return base_path("/chat/{room}")(upgrade_path("/websocket")(cls))


def rest(*paths: str, name: str = "Notes") -> type:
    methods = {f"get{n}": on(("GET", path))(lambda self: "") for n, path in enumerate(paths)}
    return base_path("/")(type(name, (), methods))


def refuses(target: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        compile(target)
    return str(caught.value)


# --- Options.


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_message_size", 0),
        ("max_message_size", 1.5),
        ("max_message_size", True),
        ("max_backlog", -1),
        ("max_backlog", 1 << 64),
        ("idle_timeout", 0),
        ("ping_interval", "20"),
        ("ping_timeout", float("inf")),
        ("ping_timeout", float("nan")),
        ("subprotocols", "chat"),
        ("subprotocols", ["a b"]),
        ("subprotocols", ["a", "a"]),
        ("subprotocols", [b"a"]),
        ("subprotocols", 3),
        ("allowed_origins", "https://example.com"),
        ("allowed_origins", ["example.com"]),
        ("allowed_origins", ["https://example.com/"]),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(option, value):
    with pytest.raises(ConfigurationError, match=rf"ws\.upgrade_path: {option}="):
        UpgradeOptions(**{option: value})


def test_the_defaults_of_the_options_are_those_of_the_documentation():
    options = UpgradeOptions()
    assert (options.subprotocols, options.allowed_origins) == ((), None)
    assert (options.max_message_size, options.max_backlog) == (1 << 20, 1 << 20)
    assert (options.idle_timeout, options.ping_interval, options.ping_timeout) == (None, 20.0, 20.0)


def test_origins_are_kept_as_browsers_send_them():
    options = UpgradeOptions(allowed_origins=["HTTPS://Example.com:443", "http://a:8080", "null"])
    assert options.allowed_origins == {"https://example.com", "http://a:8080", "null"}


# --- Services.


def test_a_class_is_compiled_with_all_that_was_annotated():
    @upgrade_path("/websocket")
    @base_path("/chat/")
    class Chat:
        @on("on_open")
        def opened(self, connection): ...

        @on("on_ping")
        @on("on_pong")
        async def alive(self, data): ...

        @on(("GET", "/motd"))
        @on(("POST", "/motd"))
        def motd(self): ...

    service = compile(Chat)
    assert isinstance(service, Service)
    assert (service.name, service.cls, service.base_path) == ("Chat", Chat, "/chat")
    assert isinstance(service.instance, Chat)
    assert service.upgrade_path is not None
    assert service.upgrade_path.text == "/chat/websocket"
    assert sorted(service.handlers) == ["on_open", "on_ping", "on_pong"]
    assert service.handlers["on_open"].label == "Chat.opened"
    assert not service.handlers["on_open"].is_async
    assert service.handlers["on_ping"].is_async
    assert [(one.method, one.path.text) for one in service.resources] == [("POST", "/chat/motd"), ("GET", "/chat/motd")]


def test_a_decorated_method_stays_a_plain_function():
    def said(self, text): ...

    assert on("on_text_message")(said) is said


def test_an_instance_is_served_as_it_is():
    chat = websocket(__init__=lambda self, database: None)(3)
    assert compile(chat).instance is chat


def test_a_handler_gets_the_arguments_that_it_names_in_its_own_order():
    class Chat:
        @on("on_text_message")
        def said(self, text, connection, /, room, unknown=1, late=2, *, extra=3): ...

        @on("on_close")
        def left(self, reason="", unknown=1, code=0, *, connection): ...

    handlers = compile(websocket(**vars(Chat))).handlers
    assert handlers["on_text_message"].positional == ("text", "connection", "room")
    assert handlers["on_text_message"].keywords == ()
    assert handlers["on_close"].positional == ("reason",)
    assert handlers["on_close"].keywords == ("code", "connection")


def test_static_class_inherited_and_wrapped_methods_are_handlers():
    async def push(prefix, text): ...

    def goodbye(self, connection): ...

    class Base:
        @on("on_open")
        def opened(self, connection): ...

    class Chat(Base):
        @on("on_ping")
        @staticmethod
        def ping(data): ...

        @classmethod
        @on("on_pong")
        def pong(cls, data): ...

        @on("on_close")
        @functools.wraps(goodbye)
        def left(self, *args): ...

        said = staticmethod(on("on_text_message")(functools.partial(push, ">")))

        def opened(self, connection, room): ...

    cls = base_path("/{room}")(upgrade_path("/")(Chat))
    handlers = compile(cls).handlers
    assert handlers["on_open"].positional == ("connection", "room")
    assert handlers["on_ping"].positional == ("data",)
    assert handlers["on_pong"].positional == ("data",)
    assert handlers["on_close"].positional == ("connection",)
    assert handlers["on_text_message"].positional == ("text",)
    assert handlers["on_text_message"].is_async


def test_a_subclass_is_served_by_the_annotations_of_its_base():
    service = compile(type("Loud", (websocket(),), {}))
    assert service.name == "Loud"
    assert service.upgrade_path is not None


def test_the_arguments_of_a_resource_come_from_path_query_and_request():
    def note(self, name, count: int = 3, *, body: bytes, request, flag: bool | None = None): ...

    cls = base_path("/notes")(type("Notes", (), {"note": on(("POST", "/{name}"))(note)}))
    [resource] = compile(cls).resources
    assert {name: one.source for name, one in resource.arguments.items()} == {
        "name": "path",
        "count": "query",
        "body": "body",
        "request": "request",
        "flag": "query",
    }
    assert resource.arguments["count"].convert("7") == 7
    assert resource.arguments["flag"].convert("no") is False
    with pytest.raises(ValueError, match="1_0"):
        resource.arguments["count"].convert("1_0")


# --- What is refused, and in which words.


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (42, "42 is no service"),
        (object, "is no service"),
        (rest("/a"), None),
        (
            upgrade_path("/ws")(type("Chat", (), {})),
            'Chat has no base path; annotate the class with @http.base_path("/...")',
        ),
        (base_path("/")(type("Empty", (), {})), "Empty has nothing to serve"),
        (rest("/{json}"), "the segment {json} of /{json} has the name of an argument"),
        (websocket(__init__=lambda self, database: None), "pass an instance instead of the class: Chat(...)"),
        (
            websocket(said=on("on_text_message")(lambda self, message: None)),
            "Chat.said takes 'message', which @ws.on_text_message cannot give; it gives connection, text, room",
        ),
        (
            base_path("/")(type("Notes", (), {"said": on("on_open")(lambda self: None)})),
            "Notes.said has @ws.on_open, but Notes serves no WebSocket",
        ),
        (websocket(said=on("on_open")(lambda self, *args: None)), "Chat.said takes *args"),
        (
            websocket(check=on("on_upgrade")(lambda self, connection: None)),
            "Chat.check takes 'connection', which @ws.on_upgrade cannot give; it gives request, upgrade, room",
        ),
        (
            base_path("/")(type("Notes", (), {"check": on("on_upgrade")(lambda self: None)})),
            "Notes.check has @ws.on_upgrade, but Notes serves no WebSocket",
        ),
        (
            base_path("/{upgrade}")(upgrade_path("/")(type("Chat", (), {}))),
            "the segment {upgrade} of /{upgrade} has the name of an argument",
        ),
    ],
)
def test_what_is_wrong_is_said_with_class_method_and_remedy(target, words):
    if words is None:
        compile(target)
    else:
        assert words in refuses(target)


def test_two_methods_for_one_event_are_refused_by_name():
    cls = websocket(one=on("on_open")(lambda self: None), two=on("on_open")(lambda self: None))
    assert "Chat.one and Chat.two both have @ws.on_open" in refuses(cls)


def test_generators_are_no_handlers():
    async def stream(self):
        yield

    assert "Chat.stream is a generator" in refuses(websocket(stream=on("on_open")(stream)))


def test_an_argument_annotated_with_another_type_than_it_gets_is_refused():
    def said(self, text: bytes): ...

    assert "Chat.said takes 'text' as bytes, but it is given as str" in refuses(
        websocket(said=on("on_text_message")(said))
    )


def test_a_query_parameter_of_a_type_that_no_query_has_is_refused():
    def find(self, when: complex): ...

    cls = base_path("/")(type("Notes", (), {"find": on(("GET", "/"))(find)}))
    assert "Notes.find takes 'when' as complex" in refuses(cls)


def test_annotations_given_twice_are_refused():
    with pytest.raises(ConfigurationError, match=r"Chat has @http\.base_path twice"):
        base_path("/again")(websocket())
    with pytest.raises(ConfigurationError, match=r"said has @ws\.on_open twice"):

        @on("on_open")
        @on("on_open")
        def said(self): ...


def test_annotations_on_the_wrong_thing_are_refused():
    with pytest.raises(ConfigurationError, match=r"@http\.base_path annotates a class"):
        base_path("/")(lambda: None)
    with pytest.raises(ConfigurationError, match=r"@ws\.on_open marks a method"):
        on("on_open")(3)


# --- Mistakes that everybody makes once.


def without_self(event, function):
    return websocket(method=on(event)(function))


def takes_text(text):
    return text


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        (
            lambda: without_self("on_text_message", takes_text),
            "'text' in the place of self; write def takes_text(self, text",
        ),
        (lambda: without_self("on_open", lambda: None), "takes no self; write def <lambda>(self"),
        (lambda: without_self("on_open", lambda *, connection: None), "takes no self"),
        (lambda: without_self("on_open", lambda room: None), "'room' in the place of self"),
        (lambda: without_self("on_open", lambda connection=None: None), "'connection' in the place of self"),
        (lambda: resource_of(lambda request: None), "'request' in the place of self"),
        (lambda: resource_of(lambda limit=10: None), "'limit' in the place of self"),
        (lambda: resource_of(annotated), "'limit' in the place of self"),
    ],
)
def test_a_method_without_self_is_told_so(target, remedy):
    assert remedy in refuses(target())


def annotated(limit: int):
    return limit


def resource_of(function) -> type:
    return base_path("/")(type("Notes", (), {"get": on(("GET", "/"))(function)}))


def test_self_may_have_another_name_and_a_static_or_class_method_has_none():
    class Service:
        @on("on_open")
        def opened(this, connection):  # noqa: N805
            pass

        @on("on_text_message")
        @staticmethod
        def said(text):
            pass

        @on("on_close")
        @classmethod
        def closed(cls, code):
            pass

    service = compile(base_path("/")(upgrade_path("/")(Service)))
    assert [handler.positional for handler in service.handlers.values()] == [("connection",), ("text",), ("code",)]


@pytest.mark.parametrize("name", [name for name in ws.__all__ if name.startswith("on_")])
def test_a_decorator_may_be_written_with_empty_parentheses(name):
    decorate = getattr(ws, name)

    def plain(self):
        pass

    def called(self):
        pass

    assert decorate(plain) is plain
    assert decorate()(called) is called
    for function in (plain, called):
        assert list(compile(websocket(method=function)).handlers) == [name]
    with pytest.raises(ConfigurationError, match=f"@ws.{name} marks a method of a service, not 'x'"):
        decorate("x")
