# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Stock servers and clients of the distribution, each on its own supervisor."""

import json
import pwd
import random
import signal

from harness import Skip, contains, equal, eventually, test, true

V6 = {4: "%s", 6: "[%s]"}


def web_folder(world, size):
    """A folder with a small page and a larger random file, and that file's bytes."""
    folder = world.context.folder("www")
    world.context.write(folder / "index.html", "hello from inside\n")
    data = random.Random(size).randbytes(size)
    world.context.write(folder / "data.bin", data)
    return folder, data


@test("nginx-curl", both=True, native=True, needs=("nginx", "curl"))
def nginx_curl(w, family):
    """Master and workers with epoll on a low port; curl once, keep-alive, 20 in parallel; workers replaced by a reload."""
    folder, data = web_folder(w, 3_000_000)
    address, port = V6[family] % w.a.addresses[family], w.a.port(80)
    run = w.context.folder("nginx%d" % family)
    conf = w.context.write(
        run / "nginx.conf",
        "daemon off; worker_processes 2; pid %(run)s/pid; error_log stderr warn;\n"
        "events { use epoll; worker_connections 256; }\n"
        "http { access_log off; %(temps)s\n"
        "server { listen %(address)s:%(port)d; root %(root)s; location = /status { return 200 \"$remote_addr\\n\"; } } }\n"
        % {
            "run": run,
            "root": folder,
            "address": address,
            "port": port,
            "temps": " ".join(
                "%s_temp_path %s/%s;" % (kind, run, kind) for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ),
        },
    )
    server = w.a.start("nginx", "-e", "stderr", "-c", conf, "-p", run)
    w.b.wait_port(family, port)
    url = "http://%s:%d/" % (address, port)
    equal(w.b.run("curl", "-sS", "--max-time", "10", url).ok().text, "hello from inside\n", "the page")
    equal(w.b.run("curl", "-sS", url + "status").ok().text.strip(), w.b.addresses[family], "the address nginx sees")
    equal(w.b.run("curl", "-sS", "--max-time", "20", url + "data.bin").ok().out, data, "a file of 3 MB")
    out = w.b.run("curl", "-sS", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects} ", url, url).ok().text
    equal(out.split(), ["1", "0"], "connections of two requests with keep-alive")
    many = ["curl", "-sS", "--parallel", "--parallel-max", "20", "--parallel-immediate", "-o", "/dev/null", url + "data.bin?[1-20]"]
    w.b.run(*many, timeout=40).ok()
    server.signal(signal.SIGHUP)
    eventually(lambda: w.b.run("curl", "-sS", "--max-time", "5", url).code == 0, 10, "an answer after a reload")
    contains(w.b.run("curl", "-sS", "-I", url).ok().text, "200 OK", "HEAD after a reload")
    server.signal(signal.SIGQUIT)
    equal(server.wait(10), 0, "exit status of nginx")


@test("nginx-wildcard", native=True, needs=("nginx", "curl"))
def nginx_wildcard(w):
    """The usual pair `listen 80; listen [::]:80;` in one server."""
    folder, _ = web_folder(w, 1000)
    port, run = w.a.port(80), w.context.folder("nginx-wild")
    temps = " ".join("%s_temp_path %s/%s;" % (kind, run, kind) for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = w.context.write(
        run / "nginx.conf",
        "worker_processes 2; pid %s/pid; error_log stderr warn; daemon off; events {}\nhttp { access_log off; %s\n"
        "server { listen %d; listen [::]:%d; root %s; } }\n" % (run, temps, port, port, folder),
    )
    server = w.a.start("nginx", "-e", "stderr", "-c", conf, "-p", run)
    for family in (4, 6):
        w.b.wait_port(family, port)
        url = "http://%s:%d/" % (V6[family] % w.a.addresses[family], port)
        equal(w.b.run("curl", "-sS", "--max-time", "10", url).ok().text, "hello from inside\n", "IPv%d" % family)
    equal(server.stop() in (0, -signal.SIGTERM), True, "nginx ends")


@test("python-http", both=True, native=True)
def python_http(w, family):
    """python3 -m http.server and urllib."""
    folder, data = web_folder(w, 500_000)
    address, port = w.a.addresses[family], w.a.port(8000)
    w.a.start("/usr/bin/python3", "-m", "http.server", "--bind", address, port, "--directory", folder)
    w.b.wait_port(family, port)
    url = "http://%s:%d/data.bin" % (V6[family] % address, port)
    code = "import sys,urllib.request as u\nfor _ in range(5): d=u.urlopen(sys.argv[1],timeout=10).read()\nsys.stdout.buffer.write(d)"
    equal(w.b.run("/usr/bin/python3", "-c", code, url).ok().out, data, "the file")


@test("redis", both=True, native=True, timeout=180, needs=("redis-server", "redis-cli", "redis-benchmark"))
def redis(w, family):
    """redis-server, redis-cli, and redis-benchmark with every command and 50 clients."""
    address, port = w.a.addresses[family], w.a.port(6379)
    folder = w.context.folder("redis%d" % family)
    w.a.start(
        "redis-server", "--port", port, "--bind", address, "--save", "", "--appendonly", "no", "--protected-mode", "no", "--dir", folder
    )
    w.b.wait_port(family, port)
    cli = ["redis-cli", "-h", address, "-p", port]
    equal(w.b.run(*cli, "ping").ok().text.strip(), "PONG", "ping")
    equal(w.b.run(*cli, "set", "key", "value").ok().text.strip(), "OK", "set")
    equal(w.b.run(*cli, "get", "key").ok().text.strip(), "value", "get")
    big = b"x" * 2_000_000
    equal(w.b.run(*cli, "-x", "set", "big", input=big).ok().text.strip(), "OK", "set of 2 MB")
    equal(w.b.run(*cli, "strlen", "big").ok().text.strip(), "2000000", "strlen")
    count = "20000" if w.context.full else "1000"
    bench = w.b.run("redis-benchmark", "-h", address, "-p", port, "-c", "50", "-n", count, "--csv", timeout=170).ok()
    names = [line.split(",")[0].strip('"') for line in bench.text.splitlines()[1:]]
    true(len(names) >= 18 and "LRANGE_600 (first 600 elements)" in names, "commands measured: %s" % names)
    true("rror" not in bench.errors, bench.errors)
    equal(w.b.run(*cli, "shutdown", "nosave").code, 0, "shutdown")


@test("ssh", both=True, native=True, timeout=120, needs=("sshd", "ssh", "sftp", "scp", "ssh-keygen"))
def ssh(w, family):
    """An unprivileged sshd with its own keys on its own port; ssh, sftp and scp."""
    context = w.context
    try:
        pwd.getpwuid(context.uid)
    except KeyError:
        raise Skip("uid %d has no entry in /etc/passwd, which ssh asks for" % context.uid) from None
    address, port = w.a.addresses[family], w.a.port(2222)
    folder = context.folder("ssh%d" % family)
    folder.chmod(0o700)
    for name in ("host", "user"):
        context.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]).ok()
    conf = context.write(
        folder / "sshd_config",
        "ListenAddress %s\nPort %d\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nPidFile none\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n"
        % (address, port, folder, folder),
    )
    server = w.a.start("/usr/sbin/sshd", "-D", "-e", "-f", conf)
    w.b.wait_port(family, port)
    options = ["-F", "/dev/null", "-i", folder / "user", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"]
    options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=15"]
    shell = ["ssh", *options, "-p", port, address]
    for _ in range(3):
        result = w.b.run(*shell, "echo $SSH_CONNECTION; cat; exit 5", input=b"through the tunnel")
        true(result.code == 5, "exit status %d: %s; sshd: %s" % (result.code, result.errors, server.output()[-400:]))
    source, _, target, number = result.text.split("\n")[0].split()
    equal((source, target, int(number)), (w.b.addresses[family], address, port), "SSH_CONNECTION")
    contains(result.text, "through the tunnel", "standard input through ssh")
    data = random.Random(family).randbytes(5_000_000)
    context.write(folder / "data", data)
    host = V6[family] % address
    w.b.run("scp", *options, "-P", port, folder / "data", "%s:%s/copied" % (host, folder), timeout=60).ok()
    equal((folder / "copied").read_bytes() == data, True, "bytes copied by scp")
    batch = "put %s/data %s/put\nget %s/put %s/got\n" % (folder, folder, folder, folder)
    w.b.run("sftp", *options, "-P", port, "-b", "-", host, input=batch.encode(), timeout=60).ok()
    equal((folder / "got").read_bytes() == data, True, "bytes through sftp and back")
    server.stop()


@test("iperf3", both=True, native=True, needs=("iperf3",))
def iperf3(w, family):
    """Four streams, both directions."""
    address, port = w.a.addresses[family], w.a.port(5201)
    server = w.a.start("iperf3", "-s", "-B", address, "-p", port)
    w.b.wait_port(family, port)
    seconds = "5" if w.context.full else "2"
    for direction in ([], ["-R"]):
        command = ["iperf3", "-c", address, "-p", port, "-P", "4", "-t", seconds, "-J", *direction]
        report = eventually(lambda: usable(w.b.run(*command, timeout=40)), 10, "iperf3 finds its server free")
        true("error" not in report, "iperf3 %s: %s" % (direction, report.get("error")))
        rate = report["end"]["sum_received"]["bits_per_second"]
        equal(len(report["end"]["streams"]), 4, "streams")
        true(rate > 10e6, "only %.1f Mbit/s %s" % (rate / 1e6, direction))
    server.stop()


def usable(result):
    """The report, or None while the server is still busy with the probe of its port."""
    report = json.loads(result.text)
    return None if "busy" in report.get("error", "") else report


@test("busybox", both=True, native=True, needs=("busybox",))
def busybox(w, family):
    """A static server and a static client."""
    file = w.context.run(["/bin/sh", "-c", "ldd $(command -v busybox) 2>&1"])
    if "not a dynamic" not in file.text and "statically" not in file.text:
        raise Skip("busybox is not static (package busybox-static)")
    folder, data = web_folder(w, 700_000)
    address, port = V6[family] % w.a.addresses[family], w.a.port(8080)
    w.a.start("busybox", "httpd", "-f", "-p", "%s:%d" % (address, port), "-h", folder)
    w.b.wait_port(family, port)
    for _ in range(5):
        got = w.b.run("busybox", "wget", "-q", "-O", "-", "http://%s:%d/data.bin" % (address, port)).ok().out
        equal(got == data, True, "the file (%d of %d bytes)" % (len(got), len(data)))


@test("python-tls", both=True, native=True, needs=("openssl",))
def python_tls(w, family):
    """A TLS server and client with Python's ssl: wrapped listener, wrapped unconnected socket, close_notify both ways."""
    folder = w.context.folder("tls%d" % family)
    key, certificate = folder / "key.pem", folder / "cert.pem"
    w.context.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
         "-out", certificate, "-days", "30", "-subj", "/CN=inside", "-addext", "subjectAltName=IP:%s" % w.a.addresses[family]]
    ).ok()  # fmt: skip
    server, client = w.a.agent(), w.b.agent()
    server.do("import ssl")
    client.do("import ssl")
    server.do("c=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER);c.load_cert_chain(%r,%r)" % (str(certificate), str(key)))
    address = w.a.addresses[family]
    server.do("l=c.wrap_socket(listener(%r),server_side=True)" % address)
    port = server.do("port(l)")
    client.do("c=ssl.create_default_context(cafile=%r)" % str(certificate))
    for size in (1, 100_000, 3_000_000):
        server.begin("s,p=l.accept();d=receive(s,%d);s.sendall(d);s=s.unwrap();s.close()" % size)
        client.do("s=c.wrap_socket(stream(%r),server_hostname=%r)" % (address, address))
        client.do("s.connect((%r,%d));d=os.urandom(%d);s.sendall(d);got=receive(s,%d)" % (address, port, size, size))
        equal(client.do("got==d and s.version()"), "TLSv1.3", "%d bytes and the version" % size)
        client.do("s=s.unwrap();s.close()")
        server.result()
    server.close()
    client.close()
