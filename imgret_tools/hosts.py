"""Which IP addresses belong to public machines; what anybody else names is fetched from no other."""

from __future__ import annotations

import ipaddress

# Inside otherwise public blocks, yet answered by the cloud the machine runs in.
_METADATA = frozenset(ipaddress.ip_address(text) for text in ("168.63.129.16", "100.100.100.200", "fd00:ec2::254"))
_RELAYS = ipaddress.ip_network("192.88.99.0/24")  # whoever is nearest answered there (RFC 7526)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def why_refused(address: str) -> str:
    """Why the IPv4 or IPv6 `address` is never fetched from, or "" when it is a public one."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return why_refused(str(inner))
    for refused, kind in (
        (ip in _METADATA, "a cloud metadata address"),
        (ip.is_loopback, "a loopback address"),
        (ip.is_unspecified, "an unspecified address"),
        (ip.is_link_local, "a link-local address"),
        (ip.is_multicast, "a multicast address"),
        (isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local, "a site-local address"),
        (not ip.is_global or ip.is_reserved or ip in _RELAYS, "a private address"),
    ):
        if refused:
            return kind
    return ""
