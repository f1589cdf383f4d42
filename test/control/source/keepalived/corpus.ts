/** Files of keepalived, good and broken, by what is odd about them. */

const plain = (service = '', server = ''): string => `virtual_server 10.0.0.1 80 {
  delay_loop 5
  lb_algo rr
  lb_kind NAT
  protocol TCP
${service}
  real_server 10.0.0.2 80 {
${server}
  }
}
`
const checker = (kind: string, inside = ''): string => plain('', `${kind} {\n${inside}\n}`)

export const CORPUS: Readonly<Record<string, string>> = {
  plain: plain(),
  'every checker': plain(
    '',
    `TCP_CHECK {
      connect_timeout 1.5
      retry 0
      delay_before_retry 2
      warmup 3
      bindto 10.0.0.9
      connect_port 8080
    }
    HTTP_GET {
      url {
        path /a
        status_code 200-299 301
      }
      url {
        path /b
        digest 0123456789abcdef0123456789ABCDEF
        virtualhost b.example
      }
      http_protocol 1.1
    }
    SSL_GET {
      url {
        path /
        regex ok
      }
      enable_sni
    }
    SMTP_CHECK {
      helo_name me
    }
    DNS_CHECK {
      type A
      name www.example.com
    }
    PING_CHECK {
    }
    UDP_CHECK {
      payload 0a0b c
      require_reply
    }
    MISC_CHECK {
      misc_path "/nowhere/check a b"
      misc_timeout 3
      misc_dynamic
    }`,
  ),
  'a brace on the next line': plain().replaceAll(' {', '\n{'),
  'two words on a line': plain('', 'weight 3 inhibit_on_failure'),
  'url on one line': checker('HTTP_GET', 'url { path / status_code 200\n}'),
  'a real server whose first word is on its line': plain().replace('10.0.0.2 80 {', '10.0.0.2 80 { weight 3'),
  'a virtual server on one line':
    'virtual_server 10.0.0.1 80 { lb_algo rr lb_kind NAT protocol TCP real_server 10.0.0.2 80 { weight 1 } }\n',
  'both kinds of comment': `! one\n# two\n${plain('quorum 1 ! three\nhysteresis 0 # four')}`,
  'comments of C': `/* one */\n${plain()}`,
  definitions: `$PORT=80\n$LINES= \\\n  weight 3 \\\n  uthreshold 5\n${plain('', '$LINES').replace('10.0.0.2 80', `10.0.0.2 \${PORT}`)}`,
  'definitions that hold definitions': `$A=\${B}\n$B=3\n${plain('', 'weight $A')}`,
  'something not defined': plain('', 'weight $NOTHING'),
  conditions: plain('', '@me weight 3\n@other weight x\n@^me weight y\n@^other weight 4'),
  sequences: plain('~SEQ(N, 3, 2, 7) real_server 10.0.0.$N 80 {\n}').replace(
    /~SEQ.*\n}/,
    `$S= \\\nreal_server 10.0.0.\${N} 80 { \\\nweight 2 \\\n}\n~SEQ(N, 3, 2, 7) $S`,
  ),
  'a block that is not known': plain('foo {\n  x y\n}\nquorum 1'),
  'a word that is not known': plain('nat_mask 255.255.255.0', 'foo'),
  'a closing brace too many': `${plain()}}\n`,
  'a closing brace too few': plain().replace(/}\n$/, ''),
  'braces where none belong': plain('quorum 1 {'),
  'lower case': checker('tcp_check').replace('NAT', 'nat'),
  'a port behind a colon': plain().replace('10.0.0.1 80', '10.0.0.1:80'),
  'a port that is none': plain().replace('10.0.0.1 80', '10.0.0.1 70000'),
  'a service without port': plain().replace('10.0.0.1 80', '10.0.0.1'),
  'no protocol': plain().replace('protocol TCP', ''),
  'an unknown protocol': plain().replace('TCP', 'FOO'),
  'no scheduler': plain().replace('lb_algo rr', ''),
  'an unknown scheduler': plain().replace(' rr', ' zz'),
  'no method': plain().replace('lb_kind NAT', ''),
  'another real port with DR': plain().replace('NAT', 'DR').replace('10.0.0.2 80', '10.0.0.2 81'),
  'tunnels of every kind': plain('', 'lvs_method TUN type gre').replace('NAT', 'TUN type gue port 6080 csum'),
  'a tunnel that is none': plain().replace('NAT', 'TUN type foo'),
  'no real servers': plain().replace(/ {2}real_server[^}]*}\n/, ''),
  'a real server twice': plain('real_server 10.0.0.2 80 {\n}'),
  'a real server of another family': plain('real_server fe80::1 80 {\n}'),
  'that with TUN': plain('real_server fe80::1 80 {\n}').replace('NAT', 'TUN'),
  'a sorry server of another family': plain('sorry_server fe80::9 80'),
  'a firewall mark': plain()
    .replace('10.0.0.1 80', 'fwmark 5')
    .replace('protocol TCP', '')
    .replace('.2 80', '.2'),
  'a firewall mark with protocol and port': plain().replace('10.0.0.1 80', 'fwmark 5'),
  'a firewall mark in hexadecimal': plain().replace('10.0.0.1 80', 'fwmark 0x5'),
  'a group': `virtual_server_group G {\n  10.1.0.1 80\n  10.1.1.1-5 80\n  10.1.2.8/30 80\n  fwmark 7\n}\n${plain().replace('10.0.0.1 80', 'group G')}`,
  'a group that is not there': plain().replace('10.0.0.1 80', 'group H'),
  'a range as a service': plain().replace('10.0.0.1 80', '10.0.0.1-5 80'),
  'a service twice': plain() + plain(),
  'persistence without a time': plain('persistence_timeout'),
  'persistence of no time': plain('persistence_timeout 0'),
  'a quorum of nothing': plain('quorum 0'),
  'more hysteresis than quorum': plain('quorum 2\nhysteresis 5'),
  'a negative weight': plain('', 'weight -1'),
  'flags of another scheduler': plain('sh-port\nops'),
  'an old word for retry': checker('HTTP_GET', 'nb_get_retry 3\nurl {\n path /\n}'),
  'an old word for retry in TCP_CHECK': checker('TCP_CHECK', 'nb_get_retry 3'),
  'a checker that asks for nothing': checker('HTTP_GET'),
  'a url without path': checker('HTTP_GET', 'url {\n status_code 200\n}'),
  'a status that is none': checker('HTTP_GET', 'url {\n path /\n status_code 700\n}'),
  'a digest that is none': checker('HTTP_GET', 'url {\n path /\n digest abc\n}'),
  'no script': checker('MISC_CHECK', 'misc_timeout 3'),
  'a script that is there': plain('quorum_up "/bin/true x" root'),
  'that with script security': `global_defs {\n  enable_script_security\n  script_user root\n}\n${plain('quorum_up "/bin/true x" root')}`,
  'a quote without end': plain('quorum_up "/bin/true'),
  'what VIP@real checkers say': checker(
    'TCP_CHECK',
    'connect_ip 10.0.0.1\nconnect_port 80\nbindto 10.0.0.9\nfwmark 7',
  ).replace('NAT', 'TUN'),
  'settings of the director': `global_defs {\n  lvs_timeouts tcp 100 tcpfin 20 udp 30\n  lvs_flush\n}\n${plain()}`,
  'a track file': `track_file load {\n  file /tmp/load\n}\n${checker('FILE_CHECK', 'track_file load\nweight 2')}`,
  'a track file that is not there': checker('FILE_CHECK', 'track_file load'),
  empty: '',
}
