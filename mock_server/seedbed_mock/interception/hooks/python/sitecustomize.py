"""Lets a Python program that ignores proxies reach the mock server; Python imports this when it starts.

``seedbed run`` puts this folder into PYTHONPATH. The hook imports nothing but the standard library, changes a module
only when the program imports it, and gives way to a ``sitecustomize`` of the user. It must run in any Python 3 that a
program may use, and a mistake in it must not break the program.
"""

import errno
import json
import os
import sys

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_SETTINGS = json.loads(os.environ.get("SEEDBED_HOOK", "{}"))
_PLACEHOLDER = "127.83.69.68"
"""Address that stands for the mock server until a connection is made: some libraries drop the port of an address."""


def _is_redirected(host):
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if not isinstance(name, str):
        return False
    name = name.lower().rstrip(".")
    return name in _SETTINGS["hosts"] or any(("." + name).endswith("." + each) for each in _SETTINGS["domains"])


def _patch_socket(module):
    look_up, connect, connect_ex = module.getaddrinfo, module.socket.connect, module.socket.connect_ex

    def getaddrinfo(host, port, family=0, *more, **options):
        if _is_redirected(host):
            host = "::ffff:" + _PLACEHOLDER if family == module.AF_INET6 else _PLACEHOLDER
        return look_up(host, port, family, *more, **options)

    def try_to_connect(self, address):
        try:
            return connect_ex(self, _target(address))
        except ConnectionRefusedError as error:
            return error.errno

    module.getaddrinfo = getaddrinfo
    module.socket.connect = lambda self, address: connect(self, _target(address))
    module.socket.connect_ex = try_to_connect


def _target(address):
    """Return the address to connect to in place of another."""
    if not isinstance(address, tuple) or not isinstance(address[0], str):
        return address
    if address[0] in (_PLACEHOLDER, "::ffff:" + _PLACEHOLDER):
        prefix = address[0][: -len(_PLACEHOLDER)]
        return (prefix + _SETTINGS["address"], _SETTINGS["port"], *address[2:])
    if _is_redirected(address[0]):
        return (_SETTINGS["address"], _SETTINGS["port"])
    if _SETTINGS["egress"] == "deny" and _is_public(address[0]):
        raise ConnectionRefusedError(
            errno.ECONNREFUSED, "seedbed run --egress deny refuses connections to " + address[0]
        )
    return address


def _is_public(address):
    import ipaddress  # needed with --egress deny only

    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_global
    except ValueError:
        return True


def _patch_ssl(module):
    # Many programs name the certificates that they trust, so that TLS takes no account of SSL_CERT_FILE.
    context = module.SSLContext

    def patched(load):
        def load_with_authority(self, *arguments, **options):
            load(self, *arguments, **options)
            add(self, cafile=_SETTINGS["authority"])

        return load_with_authority

    add = context.load_verify_locations
    for name in ("load_verify_locations", "set_default_verify_paths"):
        setattr(context, name, patched(getattr(context, name)))


def _patch_certifi(module):
    # For libraries that use another implementation of TLS, such as that of curl.
    def contents():
        with open(_SETTINGS["bundle"], encoding="ascii", errors="replace") as file:
            return file.read()

    for each in (module, sys.modules.get("certifi.core", module)):
        each.where, each.contents = (lambda: _SETTINGS["bundle"]), contents


def _patch_aiohttp(module):
    # With uvloop or aiodns, it does not look names up with the standard library.
    def patched(resolve):
        async def resolve_host(self, host, port=0, *more, **options):
            if not _is_redirected(host):
                return await resolve(self, host, port, *more, **options)
            found = {"hostname": host, "host": _SETTINGS["address"], "port": _SETTINGS["port"], "proto": 0}
            return [{**found, "family": sys.modules["socket"].AF_INET, "flags": 0}]

        return resolve_host

    for name in ("ThreadedResolver", "AsyncResolver"):
        resolver = getattr(module, name, None)
        if resolver is not None:
            resolver.resolve = patched(resolver.resolve)


class _AfterImport:
    """Changes modules as they are imported."""

    def __init__(self, patches):
        self.patches = patches

    def find_spec(self, name, path=None, target=None):
        """Find a module as without this finder, and change it when it is loaded."""
        if name not in self.patches:
            return None
        patch = self.patches.pop(name)
        import importlib.util  # only when a program needs a change

        spec = importlib.util.find_spec(name)
        try:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                _apply(patch, module)

            spec.loader.exec_module = exec_module
        except AttributeError:
            pass  # there is no such module, or its loader allows no change
        return spec


def _apply(patch, module):
    try:
        patch(module)
    except Exception as error:
        sys.stderr.write("seedbed run: cannot change the module %s: %r\n" % (module.__name__, error))


def _install():
    patches = {
        "socket": _patch_socket,
        "ssl": _patch_ssl,
        "certifi": _patch_certifi,
        "aiohttp": _patch_aiohttp,
    }
    for name in [each for each in patches if each in sys.modules]:
        _apply(patches.pop(name), sys.modules[name])
    sys.meta_path.insert(0, _AfterImport(patches))


def _import_next():
    """Import the ``sitecustomize`` that Python would have found without this one."""
    own = sys.modules.pop("sitecustomize", None)
    sys.path[:] = [each for each in sys.path if os.path.abspath(each or ".") != _FOLDER]
    try:
        __import__("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = own


if _SETTINGS:
    _install()
_import_next()
