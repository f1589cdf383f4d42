/** States to begin with, a line each of what is done; the text of a state is all there is to it. */

export interface Example {
  readonly name: string
  readonly lines: string
}

export const EXAMPLES: readonly Example[] = [
  {
    name: 'NAT',
    lines: `# Real servers answer by the director, which translates both ways
ipvsadm -A -t 192.0.2.10:80 -s rr
ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m
ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.2:8080 -m
send tcp 198.51.100.7:40000 192.0.2.10:80 syn
send tcp 10.0.0.2:8080 198.51.100.7:40000 syn,ack`,
  },
  {
    name: 'Direct routing',
    lines: `# Only the MAC address changes: real servers have the virtual address, too, and answer by themselves
ipvsadm -A -t 192.0.2.10:443 -s wlc
ipvsadm -a -t 192.0.2.10:443 -r 10.0.0.1 -g -w 3
ipvsadm -a -t 192.0.2.10:443 -r 10.0.0.2 -g -w 1
send tcp 198.51.100.7:40000 192.0.2.10:443 syn
send tcp 198.51.100.8:40000 192.0.2.10:443 syn
send tcp 198.51.100.9:40000 192.0.2.10:443 syn`,
  },
  {
    name: 'Tunnel',
    lines: `# The packet goes as it is inside of another one: real servers may be far away
ipvsadm -A -u 192.0.2.10:53 -s rr -o
ipvsadm -a -u 192.0.2.10:53 -r 203.0.113.5 -i
ipvsadm -a -u 192.0.2.10:53 -r 203.0.113.6 -i --tun-type gue --tun-port 6080
send udp 198.51.100.7:5000 192.0.2.10:53
send udp 198.51.100.7:5000 192.0.2.10:53`,
  },
  {
    name: 'Persistence',
    lines: `# A client comes back to the real server he had, for five minutes
ipvsadm -A -t 192.0.2.10:80 -s rr -p 300
ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.1 -m
ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.2 -m
send tcp 198.51.100.7:40000 192.0.2.10:80 syn
send tcp 198.51.100.8:40000 192.0.2.10:80 syn
send tcp 198.51.100.7:40001 192.0.2.10:80 syn`,
  },
  {
    name: 'Drain',
    lines: `# Weight 0: connections go on, new ones go elsewhere
ipvsadm -A -t 192.0.2.10:80 -s rr
ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.1 -m
ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.2 -m
send tcp 198.51.100.7:40000 192.0.2.10:80 syn
ipvsadm -e -t 192.0.2.10:80 -r 10.0.0.2 -m -w 0
send tcp 198.51.100.7:40000 192.0.2.10:80 ack
send tcp 198.51.100.8:40000 192.0.2.10:80 syn
wait 60
ipvsadm -Lnc`,
  },
]
