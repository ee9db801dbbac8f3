"""What is never fetched from, in every spelling, and the pieces the rest stands on."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import subprocess
import sys
import time

import pytest

from imgret_tools.collect.net.guard import addresses, fetch_image, host_of, picture_kind, why_refused
from imgret_tools.collect.net.polite import Pace, forbidding_tag
from imgret_tools.collect.net.proxy import GuardProxy
from imgret_tools.collect.steps.names import folder_names, safe_name, stem_of
from imgret_tools.errors import CollectError, PathRefused

from .sites import Answer, Site, picture

PRIVATE = """
127.0.0.1 127.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1 100.100.100.200
0.0.0.0 224.0.0.1 240.0.0.1 255.255.255.255 192.0.2.1 198.18.0.1 168.63.129.16 ::1 :: fe80::1 fc00::1
fd00:ec2::254 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 2002:7f00:1:: 2002:a9fe:a9fe::
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 2001:db8::1 fe80::1%eth0
"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_private_addresses(address: str) -> None:
    assert why_refused(address)


def test_whatever_the_standard_library_calls_not_global() -> None:
    """`fec0::/10` was let through: the standard library calls it global, though it never was."""
    kinds = (
        "_private_networks",
        "_reserved_networks",
        "_multicast_network",
        "_linklocal_network",
        "_sitelocal_network",
    )
    constants = (ipaddress._IPv4Constants, ipaddress._IPv6Constants)  # type: ignore[attr-defined]
    listed = [getattr(constant, kind, []) for constant in constants for kind in kinds]
    networks = [one for found in listed for one in (found if isinstance(found, list) else [found])]
    assert len(networks) > 30
    networks += [
        ipaddress.ip_network(one) for one in ("fec0::/10", "100.64.0.0/10", "192.88.99.0/24", "64:ff9b:1::/48")
    ]
    public = set()
    for network in networks:
        for address in (network[0], network[-1]):
            if not why_refused(str(address)):
                public.add(str(address))
    assert public == set()


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses(address: str) -> None:
    assert why_refused(address) == ""


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1", "localhost", "::1", "0"]
)
def test_other_spellings_of_loopback(host: str) -> None:
    with pytest.raises(PathRefused, match="never fetched"):
        addresses(host, 80)
    assert addresses("localhost", 80, allow_private=True)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://h/x", "//h/x", "h/x", "http://", "http://[::1", "http://h:x/", ""]
)
def test_other_kinds_of_address(url: str) -> None:
    with pytest.raises(PathRefused):
        host_of(url)
    with pytest.raises(PathRefused):
        fetch_image(url)


def test_fetch_image_gives_the_bytes(site: Site) -> None:
    site.on("/a", Answer(b"", 301, headers={"Location": "/b"}))
    site.on("/b", Answer(gzip.compress(picture(1)), headers={"Content-Encoding": "gzip"}))
    assert fetch_image(f"{site.url}/a", allow_private=True) == picture(1)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(b"<html>"), "not a picture"),
        (Answer(b"", 404), "answers 404"),
        (Answer(picture(1), length=3_000_000_000), "larger"),
        (Answer(b"", 302, headers={"Location": "/x"}), "redirects"),
        (Answer(gzip.compress(b"\xff\xd8\xff" + bytes(50_000_000)), headers={"Content-Encoding": "gzip"}), "larger"),
    ],
    ids=["html", "404", "3gb", "loop", "bomb"],
)
def test_fetch_image_says_what_was_wrong(site: Site, answer: Answer, says: str) -> None:
    site.on("/x", answer)
    with pytest.raises(CollectError, match=says):
        fetch_image(f"{site.url}/x", allow_private=True, max_bytes=1_000_000)


def test_fetch_image_gives_up_on_a_drip(site: Site) -> None:
    def drip() -> Answer:
        def pieces():  # type: ignore[no-untyped-def]
            for _ in range(50):
                time.sleep(0.05)
                yield b"\xff\xd8\xff"

        return Answer(pieces())

    site.on("/x", drip)
    started = time.monotonic()
    with pytest.raises(CollectError, match="too slowly"):
        fetch_image(f"{site.url}/x", allow_private=True, timeout=0.5)
    assert time.monotonic() - started < 2


def public_first(monkeypatch: pytest.MonkeyPatch, name: str, answers: list[str]) -> list[str]:
    """Lets `name` resolve to one answer after the other, as a rebinding name server does; returns the look-ups."""
    real, asked = socket.getaddrinfo, list[str]()

    def resolve(host: object, port: object, *args: object, **options: object) -> object:
        if host in (name, name.encode()):
            asked.append(name)
            address = answers[min(len(asked), len(answers)) - 1]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]
        return real(host, port, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def test_a_redirect_inside_is_refused(site: Site, other_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from imgret_tools.collect.net import guard

    judge = guard.why_refused
    monkeypatch.setattr(guard, "why_refused", lambda address: "" if address == "127.0.0.1" else judge(address))
    port = other_site.url.rpartition(":")[2]
    for target in (
        f"http://127.0.0.2:{port}/",
        f"http://0x7f.2:{port}/",
        f"http://[::ffff:127.0.0.2]:{port}/",
        "file:///etc/passwd",
    ):
        site.routes.insert(0, lambda _path, _, target=target: Answer(b"", 302, headers={"Location": target}))
        with pytest.raises(PathRefused):
            fetch_image(f"{site.url}/x")
    assert other_site.log == []


def test_a_name_that_changes_its_answer_is_connected_to_as_judged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """First a public answer, then loopback: had the name been looked up again, the site would be reached."""
    asked = public_first(monkeypatch, "rebind.example", ["203.0.114.7", "127.0.0.1"])
    tried = []

    def connect(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        tried.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(CollectError, match="connection failed"):
        fetch_image(f"http://rebind.example:{site.url.rpartition(':')[2]}/x")
    assert (len(asked), tried) == (1, ["203.0.114.7"])
    with pytest.raises(PathRefused, match="loopback"):
        fetch_image(f"http://rebind.example:{site.url.rpartition(':')[2]}/x")
    assert site.log == []


def test_the_name_stays_in_the_host_header(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    public_first(monkeypatch, "name.example", ["127.0.0.1"])
    site.images()
    port = site.url.rpartition(":")[2]
    fetch_image(f"http://name.example:{port}/img/1.jpg", allow_private=True)
    assert site.log[0].headers["host"] == f"name.example:{port}"


def test_the_proxy_refuses_private_addresses_and_tunnels(site: Site) -> None:
    port = site.url.rpartition(":")[2]
    for line in (f"GET {site.url}/x HTTP/1.1", f"CONNECT 127.0.0.1:{port} HTTP/1.1", f"CONNECT [::1]:{port} HTTP/1.1"):
        for allow, status in ((False, b"403"), (True, b"200")):
            if allow and "[" in line:
                continue
            site.routes[:] = [lambda _path, _: Answer(b"fine")]
            with GuardProxy(allow_private=allow) as proxy:
                with socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])), timeout=5) as client:
                    client.sendall(f"{line}\r\nHost: h\r\n\r\n".encode())
                    assert client.recv(100).split()[1] == status, (line, allow)


def test_names() -> None:
    assert [safe_name(text) for text in ("..", "", "a/b", "CON", "nul.txt", "x.", ".hidden", "a\u202eb", "a\x00b")] == [
        *("image", "image", "a_b", "_CON", "_nul.txt", "x", "hidden", "a b", "a b")
    ]
    assert len(safe_name("ố" * 500).encode()) <= 100
    assert safe_name("x" * 500) != safe_name("x" * 501)
    assert stem_of("https://h/a/%2e%2e%2fphoto.final.JPG?x=/y.png") == "_photo.final"
    assert stem_of("https://h/") == "image"
    assert stem_of("https://h/photo/1234567") == "1234567"
    names = folder_names(["a/b", "a:b", "A_B", "c"])
    assert len({name.casefold() for name in names.values()}) == 4


def test_robots_tags() -> None:
    for value in ("noindex", "nofollow, NoImageIndex", "imgret-collect: none", "unavailable_after: 2030, noai"):
        assert forbidding_tag([value]), value
    for value in ("", "nofollow", "googlebot: noindex", "index", "unavailable_after: 25 Jun 2030"):
        assert not forbidding_tag([value]), value


def test_pace_spaces_the_moments_of_each_host() -> None:
    pace = Pace(10.0)
    assert [round(pace.reserve("a")), round(pace.reserve("a")), round(pace.reserve("b"))] == [0, 10, 0]
    pace.slow_down("b", 30)
    assert [round(pace.reserve("b")), round(pace.reserve("b"))] == [10, 40]
    pace.hold("c", 5)
    assert round(pace.reserve("c")) == 5


def test_picture_kinds() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        assert picture_kind(picture(1, kind=kind)[:32]) == kind
    assert picture_kind(b"<html>") == picture_kind(b"") == ""


def test_the_guard_is_cheap_to_import() -> None:
    heavy = "('httpx', 'PIL', 'numpy', 'torch')"
    code = f"import sys, imgret_tools.collect.net.guard; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
