"""Keys, certificates and kubeconfigs of a sandbox cluster.

One certificate authority for the cluster and a second one for etcd alone (whoever holds a cluster certificate must not be able
to read the store past the API server), all EC P-256; an RSA pair signs ServiceAccount tokens. A client certificate says who
somebody is: common name = user, organisations = groups. Files are 0600 from their first byte.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# A sandbox lives for hours or days; a year is long enough that nobody meets the end and short enough that nobody keeps a key.
LIFETIME = datetime.timedelta(days=365)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, from its creation on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        handle.write(data)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


def _pem_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Authority:
    """A certificate authority that lives in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.certificate_path = folder / f"{name}.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"polyfleet-sandbox-{name}")])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        self._certificate = (
            _builder(subject, subject, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        write_private(self.certificate_path, self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, user: str, *, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> Pair:
        """Issue a certificate; with `hosts` (names or addresses) it may serve as well as call."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, user)])
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
        builder = (
            _builder(subject, self._certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        pair = Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        write_private(pair.certificate, builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        write_private(pair.key, _pem_key(key))
        return pair


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # a virtual machine's clock may step back a little
        .not_valid_after(now + LIFETIME)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def kubeconfig_text(server: str, authority: Path, pair: Pair, user: str) -> str:
    """A kubeconfig that carries its keys inside, so that it can be copied. JSON is YAML, and needs no writer."""

    def encoded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    name = "polyfleet-sandbox"
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": encoded(authority)}}],
            "users": [{"name": user, "user": {"client-certificate-data": encoded(pair.certificate), "client-key-data": encoded(pair.key)}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
            "current-context": name,
        },
        indent=1,
    )


class Pki:
    """Everything that a cluster needs, in one folder."""

    def __init__(self, folder: Path, hosts: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self._cluster = Authority(folder, "ca")
        self._etcd = Authority(folder, "etcd-ca")
        self.ca = self._cluster.certificate_path
        self.etcd_ca = self._etcd.certificate_path
        self.serving = self._cluster.issue("serving", "kube-apiserver", hosts=hosts)
        self.etcd_serving = self._etcd.issue("etcd", "etcd", hosts=hosts)
        self.etcd_client = self._etcd.issue("etcd-client", "kube-apiserver")
        # The API server calls kubelets (logs, exec) as this user. Without rights on nodes/proxy the kubelet refuses it, and the
        # bootstrap policy binds no such user, hence the group that may do everything.
        self.kubelet_client = self._cluster.issue("kubelet-client", "kube-apiserver-kubelet-client", groups=["system:masters"])
        self.admin = self._cluster.issue("admin", "sandbox-admin", groups=["system:masters"])
        tokens = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.token_key, self.token_public = folder / "tokens.key", folder / "tokens.pub"
        write_private(self.token_key, _pem_key(tokens))
        public = tokens.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        write_private(self.token_public, public)

    def kubelet_pair(self, node: str, address: str) -> Pair:
        """The certificate of a node's kubelet: calls as system:node:NODE, and serves on the node's address."""
        return self._cluster.issue(f"kubelet-{node}", f"system:node:{node}", groups=["system:nodes"], hosts=[node, address])

    def kubeconfig(self, path: Path, server: str, user: str, *, groups: Sequence[str] = (), pair: Pair | None = None) -> Path:
        """Write the kubeconfig of a user; issues the certificate unless one is given."""
        issued = pair or self._cluster.issue(f"user-{path.stem}", user, groups=groups)
        write_private(path, kubeconfig_text(server, self.ca, issued, user).encode())
        return path


def make_pki(folder: Path, hosts: Sequence[str] = ("127.0.0.1", "localhost")) -> Pki:
    """Make a new public key infrastructure; `hosts` are the names and addresses under which the servers are reached."""
    return Pki(folder, hosts)
