"""A signed URL permits exactly what it says, until it ends."""

from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brightrun.storage.errors import UrlExpiredError, UrlInvalidError
from brightrun.storage.paths import Bucket
from brightrun.storage.signing import ROOT, UrlSigner

NOW = 1_800_000_000.0
signer = UrlSigner("https://example.org/", b"k" * 32, now=lambda: NOW)
Request = tuple[str, str, str, str, tuple[tuple[str, str], ...]]

SIGNED_URL = signer.url(
    "PUT", "object", Bucket.LORA_DATASETS, "w/datasets/d/a b%.jsonl", expires_s=60, size=500, sha256="ab", filename=None
)


def as_request(url: str, method: str = "PUT") -> Request:
    parts = urlsplit(url)
    route, bucket, path = unquote(parts.path.removeprefix(ROOT + "/")).split("/", 2)
    return method, route, bucket, path, tuple(parse_qsl(parts.query))


def test_a_signed_url_is_absolute_and_gives_its_limits() -> None:
    assert SIGNED_URL.startswith(
        "https://example.org/storage/v1/object/lora-datasets/w/datasets/d/a%20b%25.jsonl?size=500&sha256=ab&expires="
    )
    assert signer.check(*as_request(SIGNED_URL)) == {"size": "500", "sha256": "ab", "expires": "1800000060"}


def test_it_ends_at_its_expiry_and_says_so() -> None:
    later = UrlSigner("https://example.org", b"k" * 32, now=lambda: NOW + 59)
    assert later.check(*as_request(SIGNED_URL))
    ended = UrlSigner("https://example.org", b"k" * 32, now=lambda: NOW + 60)
    with pytest.raises(UrlExpiredError):
        ended.check(*as_request(SIGNED_URL))


def test_another_secret_makes_other_signatures() -> None:
    with pytest.raises(UrlInvalidError):
        UrlSigner("https://example.org", b"j" * 32, now=lambda: NOW).check(*as_request(SIGNED_URL))


VALID = as_request(SIGNED_URL)
short = st.text(max_size=8)
params = st.lists(
    st.tuples(st.sampled_from(["size", "expires", "sha256", "signature", "part", "x"]), short), max_size=4
)


@given(
    method=st.sampled_from(["PUT", "GET", "POST", "put"]),
    route=st.sampled_from(["object", "multipart/part", ""]),
    bucket=st.sampled_from(["lora-datasets", "exports", ""]),
    path=st.one_of(st.just(VALID[3]), short),
    query=st.one_of(
        st.just(list(VALID[4])),
        params,
        params.map(lambda more: [*VALID[4], *more]),
        st.integers(0, 3).map(lambda i: [pair for n, pair in enumerate(VALID[4]) if n != i]),
        st.permutations(list(VALID[4])),
        st.tuples(st.integers(0, 3), short).map(
            lambda change: [(k, change[1]) if n == change[0] else (k, v) for n, (k, v) in enumerate(VALID[4])]
        ),
    ),
)
def test_whatever_is_altered_the_url_is_invalid(
    method: str, route: str, bucket: str, path: str, query: list[tuple[str, str]]
) -> None:
    unchanged = (method, route, bucket, path, tuple(sorted(query))) == (*VALID[:4], tuple(sorted(VALID[4])))
    if unchanged:
        assert signer.check(method, route, bucket, path, query)
    else:
        with pytest.raises(UrlInvalidError):
            signer.check(method, route, bucket, path, query)
