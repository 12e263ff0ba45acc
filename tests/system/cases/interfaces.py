# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a network looks like from inside: netlink sockets and the ioctls of interfaces."""

import json
import time

from harness import contains, equal, test, true
from harness.agent import agents


@test("ip-shows-the-network", needs=("ip",))
def ip_shows_the_network(w):
    """iproute2 lists lo and netcon0 with the network's addresses and routes, nothing of the host, and changes nothing."""
    links = json.loads(w.a.run("ip", "-j", "addr").ok().text)
    equal([link["ifname"] for link in links], ["lo", "netcon0"], "interfaces")
    shown = {entry["local"] for entry in links[1]["addr_info"]}
    equal(shown, {w.a.addresses[4], w.a.addresses[6]}, "addresses of netcon0")
    equal({entry["local"] for entry in links[0]["addr_info"]}, {"127.0.0.1", "::1"}, "addresses of lo")
    one = json.loads(w.a.run("ip", "-j", "-s", "link", "show", "dev", "netcon0").ok().text)
    true(one[0]["mtu"] >= 1280 and "UP" in one[0]["flags"], "link: %r" % one)
    for family in (4, 6):
        routes = json.loads(w.a.run("ip", "-j", "-%d" % family, "route").ok().text)
        true({route["dev"] for route in routes} <= {"lo", "netcon0"}, "routes: %r" % routes)
        found = json.loads(w.a.run("ip", "-j", "route", "get", w.b.addresses[family]).ok().text)[0]
        equal((found["dev"], found["prefsrc"]), ("netcon0", w.a.addresses[family]), "the way to the other side")
    equal(json.loads(w.a.run("ip", "-j", "route", "get", w.a.addresses[4]).ok().text)[0]["dev"], "lo", "the way to oneself")
    contains(w.a.run("ip", "route", "get", "192.0.2.1").errors, "unreachable", "an address without a route")
    contains(w.a.run("ip", "link", "set", "netcon0", "down").errors, "not permitted", "a change")
    equal(w.a.run("ip", "neigh").ok().text, "", "neighbours")
    equal(len(w.a.run("ip", "rule").ok().text.splitlines()), 3, "rules")


@test("libraries-see-interfaces")
def libraries_see_interfaces(w):
    """getifaddrs, if_nameindex, if_nametoindex and AI_ADDRCONFIG work on the network's interfaces."""
    code = (
        "import socket\n"
        "print(socket.if_nameindex(), socket.if_nametoindex('netcon0'), socket.if_indextoname(1))\n"
        "print(socket.getaddrinfo(%r,80,flags=socket.AI_ADDRCONFIG,type=1)[0][4])\n"
        "try: socket.if_nametoindex('eth0')\n"
        "except OSError as e: print(e.args[0])\n"
    )
    result = w.a.run("/usr/bin/python3", "-c", code % w.b.addresses[6]).ok()
    lines = result.text.splitlines()
    equal(lines[0], "[(1, 'lo'), (2, 'netcon0')] 2 lo", "names and numbers")
    contains(lines[1], w.b.addresses[6], "getaddrinfo")
    binary = w.context.compile("getifaddrs.c")
    result = w.a.run(binary).ok()
    wanted = ["lo 127.0.0.1", "netcon0 " + w.a.addresses[4], "lo ::1", "netcon0 " + w.a.addresses[6]]
    equal(result.text.splitlines(), wanted, "getifaddrs")


@test("interface-requests")
def interface_requests(w):
    """The ioctls of netdevice(7) on any socket; ENODEV, EADDRNOTAVAIL, EPERM, ENOTTY and EFAULT where Linux gives them."""
    code = (
        "import socket,fcntl,struct,errno,os,sys\n"
        "def ask(fd,number,name,raw=b''):\n"
        " try: return fcntl.ioctl(fd,number,struct.pack('16s24s',name,raw))[16:]\n"
        " except OSError as e: return errno.errorcode[e.errno]\n"
        "i=socket.socket();u=socket.socket(socket.AF_UNIX);n=socket.socket(16,3,0);f=open('/dev/null')\n"
        "for s in i,u,n: print(struct.unpack_from('i',ask(s,0x8933,b'netcon0'))[0],struct.unpack_from('i',ask(s,0x8921,b'lo'))[0])\n"
        "print(socket.inet_ntoa(ask(i,0x8915,b'netcon0')[4:8]),socket.inet_ntoa(ask(i,0x891b,b'lo')[4:8]))\n"
        "print(ask(u,0x8915,b'netcon0'),ask(i,0x8933,b'eth0'),ask(i,0x8914,b'lo'),ask(f,0x8933,b'lo'),ask(i,0x8946,b'lo'))\n"
        "b=bytearray(400);import array;a=array.array('b',b);at,_=a.buffer_info()\n"
        "n=struct.unpack('iP',fcntl.ioctl(i,0x8912,struct.pack('iP',400,at)))[0]\n"
        "r=a.tobytes();print([r[k:k+16].rstrip(b'\\0').decode()+' '+socket.inet_ntoa(r[k+20:k+24]) for k in range(0,n,40)])\n"
        "print(struct.unpack('iP',fcntl.ioctl(i,0x8912,struct.pack('iP',0,0)))[0])\n"
    )
    lines = w.a.run("/usr/bin/python3", "-c", code).ok().text.splitlines()
    equal(lines[:3], ["2 65536"] * 3, "index and MTU on three kinds of sockets")
    equal(lines[3], w.a.addresses[4] + " 255.0.0.0", "address and mask")
    equal(lines[4], "ENOTTY ENODEV EPERM ENOTTY EFAULT", "refusals")
    equal(lines[5], str(["lo 127.0.0.1", "netcon0 " + w.a.addresses[4]]), "SIOCGIFCONF")
    equal(lines[6], "80", "SIOCGIFCONF without a buffer")


@test("netlink-socket", native=True)
def netlink_socket(w):
    """Addresses, options and errors of a netlink socket; native and trapped requests; a wait that a time-out or signal ends."""
    code = (
        "import socket,struct,errno,os,signal,time,select\n"
        "def err(f):\n"
        " try: return f()\n"
        " except OSError as e: return errno.errorcode[e.errno]\n"
        "ask=struct.pack('IHHII',32,18,0x301,7,0)+bytes(16)\n"
        "s=socket.socket(16,3,0);t=socket.socket(16,2,0)\n"
        "print(s.getsockname(),s.getsockopt(1,39),s.getsockopt(1,3),s.getpeername())\n"
        "s.bind((0,0));t.bind((0,0));print(s.getsockname()[0]==os.getpid(),t.getsockname()[0]!=os.getpid())\n"
        "print(err(lambda:socket.socket(16,3,0).bind((os.getpid(),0))),err(lambda:s.bind((1,0))),err(lambda:s.sendto(ask,(1,0))))\n"
        "print(err(lambda:s.connect((5,0))),err(lambda:s.listen()),err(lambda:s.sendto(b'',(0,0))),err(lambda:s.shutdown(2)))\n"
        "def drain():\n"
        " kinds=[]\n"
        " while 3 not in kinds:\n"
        "  d,a=s.recvfrom(65536)\n"
        "  while d: n,k,_,q=struct.unpack_from('IHHI',d);kinds.append(k);assert q==7 and a==(0,0);d=d[(n+3)&~3:]\n"
        " return set(kinds)\n"
        "s.send(ask);d,c,f,a=s.recvmsg(65536);print(len(d)>500,a,f);print(drain()>={3})\n"
        "s.sendto(ask,(0,0));print(select.select([s],[],[],5)[0]==[s])\n"
        "n=s.recv(1,socket.MSG_PEEK|socket.MSG_TRUNC);print(len(n)>500);print(drain())\n"
        "s.setblocking(False);print(err(lambda:s.recvfrom(9)));s.setblocking(True)\n"
        "s.setblocking(True);s.setsockopt(1,20,struct.pack('ll',0,200000));print(err(lambda:s.recvfrom(9)))\n"
        "s.setsockopt(1,20,struct.pack('ll',0,0))\n"
        "class Hit(Exception): pass\n"
        "def hit(*_): raise Hit\n"
        "signal.signal(signal.SIGALRM,hit);signal.setitimer(signal.ITIMER_REAL,0.3)\n"
        "try: s.recvfrom(9)\n"
        "except Hit: print('hit')\n"
        "os.write(s.fileno(),ask);print(drain())\n"
        "print(err(lambda:socket.socket(16,1,0)))\n"
    )
    lines = w.a.run("/usr/bin/python3", "-c", code, timeout=30).ok().text.splitlines()
    wanted = [
        "(0, 0) 16 3 (0, 0)",
        "True True",
        "EADDRINUSE EINVAL EPERM",
        "EPERM ENOTSUP ENODATA ENOTSUP",
        "True (0, 0) 0",
        "True",
        "True",
        "True",
        "{16, 3}",
        "EAGAIN",
        "EAGAIN",
        "hit",
        "{16, 3}",
        "ESOCKTNOSUPPORT",
    ]
    equal(lines, wanted, "netlink")


@test("netlink-leaves-nothing")
def netlink_leaves_nothing(w):
    """Ten thousand netlink sockets, some passed to children, leave no descriptor in the supervisor."""
    before = w.a.figures()
    code = (
        "import socket,os\n"
        "for i in range(10000):\n"
        " s=socket.socket(16,3,0);s.bind((0,0))\n"
        " if i%500==0 and os.fork()==0: os._exit(0)\n"
        " s.close()\n"
    )
    w.a.run("/usr/bin/python3", "-c", code, timeout=60).ok()
    deadline = time.monotonic() + 10
    while w.a.figures()["fds"] > before["fds"] and time.monotonic() < deadline:
        time.sleep(0.1)
    true(w.a.figures()["fds"] <= before["fds"], "descriptors: %r, before %r" % (w.a.figures(), before))
    with agents(w.a) as (agent,):
        agent.do("s=socket.socket(16,3,0)")
