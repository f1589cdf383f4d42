/** Which words keepalived 2.2 knows, and where. */

export type Block =
  /** Words with values, and blocks. */
  | { readonly kind: 'words'; readonly words: Readonly<Record<string, Block | 'value'>> }
  /** Every line is a value. */
  | { readonly kind: 'lines' }
  /** Not ours: read to its end, and left to keepalived. */
  | { readonly kind: 'elsewhere' }

const values = (...names: readonly string[]): Record<string, 'value'> =>
  Object.fromEntries(names.map((name) => [name, 'value']))
const words = (known: Readonly<Record<string, Block | 'value'>>): Block => ({ kind: 'words', words: known })
const ELSEWHERE: Block = { kind: 'elsewhere' }

const TIMERS = ['retry', 'delay_before_retry', 'warmup', 'delay_loop', 'connect_timeout']
const CHECKER = [...TIMERS, 'alpha', 'log_all_failures']
const CONNECTION = [...CHECKER, ...['connect_ip', 'connect_port', 'bindto', 'bind_if', 'bind_port', 'fwmark']]

const url = words(
  values(
    ...['path', 'digest', 'status_code', 'virtualhost', 'regex', 'regex_no_match', 'regex_options'],
    ...['regex_stack', 'regex_min_offset', 'regex_max_offset', 'tls_compliant'],
  ),
)
const HTTP = {
  ...values(...CONNECTION, 'nb_get_retry', 'http_protocol', 'fast_recovery', 'virtualhost'),
  url,
}
const CHECKERS: Readonly<Record<string, Block>> = {
  HTTP_GET: words(HTTP),
  SSL_GET: words({ ...HTTP, ...values('enable_sni') }),
  TCP_CHECK: words(values(...CONNECTION)),
  SMTP_CHECK: words({
    ...values(...CONNECTION, 'helo_name'),
    host: words(values(...CONNECTION)),
  }),
  DNS_CHECK: words(values(...CONNECTION, 'type', 'name')),
  MISC_CHECK: words(
    values(
      ...['retry', 'delay_before_retry', 'warmup', 'delay_loop', 'alpha', 'log_all_failures'],
      ...['misc_path', 'misc_timeout', 'misc_dynamic', 'user'],
    ),
  ),
  BFD_CHECK: words(values('name', 'alpha')),
  PING_CHECK: words(values(...CONNECTION)),
  UDP_CHECK: words(values(...CONNECTION, 'payload', 'require_reply', 'min_reply_length', 'max_reply_length')),
  FILE_CHECK: words(values('track_file', 'dynamic', 'weight', 'alpha', 'log_all_failures')),
}

const realServer = words({
  ...values(
    ...TIMERS,
    ...['weight', 'lvs_method', 'uthreshold', 'lthreshold', 'inhibit_on_failure', 'notify_up', 'notify_down'],
    ...['alpha', 'smtp_alert', 'virtualhost', 'snmp_name'],
  ),
  ...CHECKERS,
})

const virtualServer = words({
  ...values(
    ...TIMERS,
    ...[
      'ip_family',
      'inhibit_on_failure',
      'lb_algo',
      'lvs_sched',
      'hashed',
      'ops',
      'flag-1',
      'flag-2',
      'flag-3',
    ],
    ...['sh-port', 'sh-fallback', 'mh-port', 'mh-fallback', 'lb_kind', 'lvs_method', 'persistence_engine'],
    ...[
      'persistence_timeout',
      'persistence_granularity',
      'protocol',
      'ha_suspend',
      'smtp_alert',
      'virtualhost',
    ],
    ...['snmp_name', 'alpha', 'omega', 'quorum_up', 'quorum_down', 'quorum', 'hysteresis', 'weight'],
    ...['sorry_server', 'sorry_server_inhibit', 'sorry_server_lvs_method'],
  ),
  real_server: realServer,
})

/** Those that say something about services or checks; the other ones are keepalived's own affair. */
const globalDefinitions = words({
  ...values(
    ...[
      'lvs_timeouts',
      'lvs_flush',
      'lvs_flush_on_stop',
      'lvs_sync_daemon',
      'lvs_notify_fifo',
      'lvs_notify_fifo_script',
    ],
    ...['lvs_netlink_cmd_rcv_bufs', 'lvs_netlink_cmd_rcv_bufs_force', 'lvs_netlink_monitor_rcv_bufs'],
    ...[
      'lvs_netlink_monitor_rcv_bufs_force',
      'script_user',
      'enable_script_security',
      'checker_log_all_failures',
    ],
    ...[
      'instance',
      'net_namespace',
      'net_namespace_ipvs',
      'use_pid_dir',
      'namespace_with_ipsets',
      'router_id',
    ],
    ...[
      'bfd_cpu_affinity',
      'bfd_no_swap',
      'bfd_priority',
      'bfd_process_name',
      'bfd_rlimit_rttime',
      'bfd_rt_priority',
    ],
    ...['checker_cpu_affinity', 'checker_no_swap', 'checker_priority', 'checker_process_name'],
    ...[
      'checker_rlimit_rttime',
      'checker_rt_priority',
      'config_save_dir',
      'data_use_instance',
      'dbus_service_name',
    ],
    ...[
      'default_interface',
      'disable_local_igmp',
      'dynamic_interfaces',
      'enable_dbus',
      'enable_snmp_checker',
    ],
    ...['enable_snmp_rfc', 'enable_snmp_rfcv2', 'enable_snmp_rfcv3', 'enable_snmp_vrrp', 'enable_traps'],
    ...['fifo_write_vrrp_states_on_reload', 'include_check', 'linkbeat_use_polling', 'log_unknown_vrids'],
    ...['max_auto_priority', 'min_auto_priority_delay', 'nftables', 'nftables_counters', 'nftables_ifindex'],
    ...['nftables_ipvs', 'nftables_ipvs_priority', 'nftables_ipvs_start_fwmark', 'nftables_priority'],
    ...[
      'no_checker_emails',
      'no_email_faults',
      'notification_email_from',
      'notify_fifo',
      'notify_fifo_script',
    ],
    ...[
      'process_monitor_rcv_bufs',
      'process_monitor_rcv_bufs_force',
      'process_name',
      'process_names',
      'random_seed',
    ],
    ...['reload_check_config', 'reload_file', 'reload_repeat', 'reload_time_file', 'rs_init_notifies'],
    ...['shutdown_script', 'shutdown_script_timeout', 'smtp_alert', 'smtp_alert_checker', 'smtp_alert_vrrp'],
    ...['smtp_connect_timeout', 'smtp_helo_name', 'smtp_server', 'snmp_socket', 'startup_script'],
    ...['startup_script_timeout', 'tmp_config_directory', 'umask', 'vmac_addr_prefix', 'vmac_prefix'],
    ...['vrrp_check_unicast_src', 'vrrp_cpu_affinity', 'vrrp_down_timer_adverts', 'vrrp_garp_extra_if'],
    ...[
      'vrrp_garp_interval',
      'vrrp_garp_lower_prio_delay',
      'vrrp_garp_lower_prio_repeat',
      'vrrp_garp_master_delay',
    ],
    ...['vrrp_garp_master_refresh', 'vrrp_garp_master_refresh_repeat', 'vrrp_garp_master_repeat'],
    ...['vrrp_gna_interval', 'vrrp_higher_prio_send_advert', 'vrrp_ipsets', 'vrrp_iptables'],
    ...['vrrp_lower_prio_no_advert', 'vrrp_mcast_group4', 'vrrp_mcast_group6', 'vrrp_min_garp'],
    ...['vrrp_netlink_cmd_rcv_bufs', 'vrrp_netlink_cmd_rcv_bufs_force', 'vrrp_netlink_monitor_rcv_bufs'],
    ...['vrrp_netlink_monitor_rcv_bufs_force', 'vrrp_no_swap', 'vrrp_notify_fifo', 'vrrp_notify_fifo_script'],
    ...['vrrp_notify_priority_changes', 'vrrp_priority', 'vrrp_process_name', 'vrrp_rlimit_rttime'],
    ...['vrrp_rt_priority', 'vrrp_rx_bufs_multiplier', 'vrrp_rx_bufs_policy', 'vrrp_skip_check_adv_addr'],
    ...['vrrp_startup_delay', 'vrrp_strict', 'vrrp_version'],
  ),
  notification_email: { kind: 'lines' },
  linkbeat_interfaces: { kind: 'lines' },
})

const trackFile = words(values('file', 'weight', 'init_file'))

export const ROOT: Readonly<Record<string, Block | 'value'>> = {
  global_defs: globalDefinitions,
  SSL: words(values('password', 'ca', 'certificate', 'key')),
  virtual_server_group: { kind: 'lines' },
  virtual_server: virtualServer,
  track_file: trackFile,
  vrrp_track_file: trackFile,
  vrrp_instance: ELSEWHERE,
  vrrp_sync_group: ELSEWHERE,
  vrrp_script: ELSEWHERE,
  vrrp_track_process: ELSEWHERE,
  track_process: ELSEWHERE,
  track_group: ELSEWHERE,
  static_ipaddress: ELSEWHERE,
  static_routes: ELSEWHERE,
  static_rules: ELSEWHERE,
  bfd_instance: ELSEWHERE,
  garp_group: ELSEWHERE,
  interface_up_down_delays: ELSEWHERE,
  linkbeat_interfaces: ELSEWHERE,
  ...values(
    'linkbeat_use_polling',
    'net_namespace',
    'net_namespace_ipvs',
    'namespace_with_ipsets',
    'instance',
    'use_pid_dir',
  ),
}
