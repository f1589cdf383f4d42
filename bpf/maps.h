/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Every map, one line each: name, record, entries when nothing else is said. All are flat arrays;
 * the loader sets the real sizes (dataplane/kernel) or allocates regions (dataplane/userspace).
 *
 *   settings       daemon writes, program reads (its own counters aside); one record
 *   interfaces     daemon writes at attach; 64 hashed by ifindex, more than any director has ports
 *   macs           daemon writes; addresses of interfaces that have more than a record of those holds
 *   egress         daemon writes; what interfaces cannot do as a way out, hashed by ifindex
 *   services       daemon writes; a slot is complete before a bucket names it
 *   service_index  daemon writes single 64-bit entries; two choices of eight
 *   cpus           program writes its own CPU's record
 *   nat_index      the same for NAT real servers, only filled while PM_SETTING_NAT_ICMP_SEND is set
 *   schedules      daemon writes the idle one of each pair; cursor is the program's
 *   members        daemon writes ranges that no active schedule names
 *   reals          daemon writes; index is stable while connections refer to it
 *   hops           daemon writes; by index in reals
 *   neighbours     program writes; next hops that packets have found, by content
 *   live           program and sweeper, atomic adds; the schedulers of the "least" family read it
 *   counters       program writes its own CPU's record, daemon sums
 *   fragments      program writes; datagrams that come in fragments, for half a minute
 *   connections4/6 program claims and fills lines, daemon sweeps
 *   controls4/6    the same; which connections belong to which persistence template
 *   localities     program's; where destinations go by the schedulers lblc and lblcr
 *   verdicts       program writes its own CPU's row, daemon sums
 *   interest       daemon sets bits; a filter of endpoints in front of everything else
 *   mark_*         daemon writes the half that is not in use; marking rules by kind, key and ports
 *   filters        daemon writes; prefixes of sources, by hash
 *   gates          daemon writes; what of that is for one service, and its limits, by its slot
 *   sources        program's; which sources have started connections lately, of services with a limit
 *   answered       program's; which destinations were told of ICMP errors lately
 *   full_nat       daemon writes; addresses of ours that full NAT gives connections for a source
 *   call_ids       program writes, lists read; Call-IDs of persistence templates
 *   locals         daemon writes; IPv4 addresses of this host (martian sources)
 */
#define PM_MAPS(MAP)                                   \
	MAP(settings, struct pm_settings, 1)           \
	MAP(interfaces, struct pm_interface, 64)       \
	MAP(services, struct pm_service, 256)          \
	MAP(service_index, struct pm_service_bucket, 64) \
	MAP(schedules, struct pm_schedule, 512)        \
	MAP(members, struct pm_member, 4096)           \
	MAP(reals, struct pm_real, 1024)               \
	MAP(live, struct pm_live, 1024)                \
	MAP(counters, struct pm_counters, 2048)        \
	MAP(connections4, struct pm_conn4, 4096)       \
	MAP(connections6, struct pm_conn6, 4096)       \
	MAP(verdicts, __u64, 256)                      \
	MAP(locals, struct pm_local_bucket, 128)       \
	MAP(interest, __u64, 8192)                     \
	MAP(nat_index, struct pm_service_bucket, 64)   \
	MAP(egress, struct pm_egress, 1024)            \
	MAP(cpus, struct pm_cpu_state, 2)              \
	MAP(hops, struct pm_hop, 1024)                 \
	MAP(macs, struct pm_mac_bucket, 1024)          \
	MAP(mark_kinds, struct pm_mark_kind, 512)      \
	MAP(mark_index, struct pm_service_bucket, 4096) \
	MAP(mark_keys, struct pm_mark_key, 20480)      \
	MAP(mark_spans, struct pm_mark_span, 40960)    \
	MAP(controls4, struct pm_controls, 1024)       \
	MAP(controls6, struct pm_controls, 1024)       \
	MAP(filters, struct pm_filter, 4096)           \
	MAP(filter_lengths, struct pm_filter_lengths, 2) \
	MAP(gates, struct pm_gate, 256)            \
	MAP(sources, struct pm_source, 32768)          \
	MAP(answered, struct pm_answered, 2048)        \
	MAP(fragments, struct pm_fragment, 4096)      \
	MAP(neighbours, struct pm_neighbour, 32768)    \
	MAP(localities, struct pm_locality, 16384)     \
	MAP(full_nat, struct pm_full_nat, 128)         \
	MAP(call_ids, struct pm_call_id, 8192)
