"""Certificates say who somebody is, and nobody else can read the keys."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox.pki import Pki, make_pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """One set of keys for all tests of this file."""
    return make_pki(tmp_path_factory.mktemp("pki") / "pki", ["127.0.0.1", "kubernetes"])


def _read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _verified(certificate: Path, authority: Path) -> bool:
    issuer, found = _read(authority), _read(certificate)
    found.verify_directly_issued_by(issuer)
    return found.issuer == issuer.subject


def test_files_are_private(pki: Pki) -> None:
    """Folder 0700, every file 0600."""
    assert pki.folder.stat().st_mode & 0o777 == 0o700
    assert {oct(path.stat().st_mode & 0o777) for path in pki.folder.iterdir()} == {"0o600"}


def test_admin_is_in_the_group_of_masters(pki: Pki) -> None:
    """Common name = user, organisation = group, elliptic curve P-256."""
    admin = _read(pki.admin.certificate)
    assert [each.value for each in admin.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["system:masters"]
    key = admin.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_server_certificate_names_its_addresses(pki: Pki) -> None:
    """Addresses as addresses, names as names."""
    names = _read(pki.serving.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert names.get_values_for_type(x509.DNSName) == ["kubernetes"]


def test_etcd_trusts_an_authority_of_its_own(pki: Pki) -> None:
    """A cluster certificate must not open the store: it is signed by another authority."""
    assert _verified(pki.admin.certificate, pki.ca)
    assert _verified(pki.etcd_client.certificate, pki.etcd_ca)
    with pytest.raises((ValueError, TypeError)):
        _verified(pki.admin.certificate, pki.etcd_ca)


def test_kubeconfig_carries_its_keys(pki: Pki, tmp_path: Path) -> None:
    """A kubeconfig can be copied elsewhere, and is private from the start."""
    path = pki.kubeconfig(tmp_path / "k", "https://127.0.0.1:1", "system:node:a", pair=pki.kubelet_pair("a", "10.0.0.9"))
    data = json.loads(path.read_text())
    certificate = x509.load_pem_x509_certificate(base64.b64decode(data["users"][0]["user"]["client-certificate-data"]))
    assert certificate.subject.rfc4514_string() == "CN=system:node:a,O=system:nodes"
    assert data["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert path.stat().st_mode & 0o777 == 0o600
