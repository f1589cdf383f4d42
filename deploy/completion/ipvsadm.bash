# bash completion for ipvsadm; goes to /usr/share/bash-completion/completions/ipvsadm

_ipvsadm_services() {
	# Saved rules name every service the way it is typed: -A -t ADDRESS:PORT ...
	ipvsadm -Sn 2>/dev/null | awk -v kind="$1" '$1 == "-A" && $2 == kind { print $3 }'
}

_ipvsadm_servers() {
	local kind=$1 service=$2
	ipvsadm -Sn 2>/dev/null |
		awk -v kind="$kind" -v service="$service" '$1 == "-a" && $2 == kind && $3 == service {
			for (i = 4; i < NF; i++) if ($i == "-r") print $(i + 1)
		}'
}

_ipvsadm() {
	local cur prev words cword
	if declare -F _get_comp_words_by_ref >/dev/null; then
		_get_comp_words_by_ref -n : cur prev words cword
	else
		cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
		words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
	fi

	local commands='--add-service -A --edit-service -E --delete-service -D --clear -C --restore -R
		--save -S --add-server -a --edit-server -e --delete-server -d --list -L -l --zero -Z --set
		--start-daemon --stop-daemon --help -h --version -v'
	local service='--tcp-service -t --udp-service -u --sctp-service --fwmark-service -f --ipv6 -6'
	local choices=

	case $prev in
	-s | --scheduler) choices='rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos random wrandom none' ;;
	-b | --sched-flags) choices='sh-fallback sh-port mh-fallback mh-port flag-1 flag-2 flag-3' ;;
	--pe) choices=sip ;;
	--tun-type) choices='ipip gue gre' ;;
	--start-daemon | --stop-daemon) choices='master backup' ;;
	--mcast-interface) choices=$(ls /sys/class/net 2>/dev/null) ;;
	-t | --tcp-service) choices=$(_ipvsadm_services -t) ;;
	-u | --udp-service) choices=$(_ipvsadm_services -u) ;;
	--sctp-service) choices=$(_ipvsadm_services --sctp-service) ;;
	-f | --fwmark-service) choices=$(_ipvsadm_services -f) ;;
	-r | --real-server)
		local i
		for ((i = 1; i < cword - 1; i++)); do
			case ${words[i]} in
			-t | -u | -f | --sctp-service) choices=$(_ipvsadm_servers "${words[i]}" "${words[i + 1]}") ;;
			--tcp-service) choices=$(_ipvsadm_servers -t "${words[i + 1]}") ;;
			--udp-service) choices=$(_ipvsadm_servers -u "${words[i + 1]}") ;;
			--fwmark-service) choices=$(_ipvsadm_servers -f "${words[i + 1]}") ;;
			esac
		done
		;;
	-w | --weight | -x | --u-threshold | -y | --l-threshold | -M | --netmask | --tun-port | --syncid | \
		--sync-maxlen | --mcast-group | --mcast-port | --mcast-ttl) return ;;
	*)
		if ((cword == 1)); then
			choices=$commands
		else
			case ${words[1]} in
			-A | -E | --add-service | --edit-service)
				choices="$service --scheduler -s --persistent -p --netmask -M --pe --sched-flags -b --ops -o --untracked"
				;;
			-D | --delete-service | -Z | --zero) choices=$service ;;
			-a | -e | --add-server | --edit-server)
				choices="$service --real-server -r --gatewaying -g --ipip -i --masquerading -m --weight -w
					--u-threshold -x --l-threshold -y --tun-type --tun-port --tun-nocsum --tun-csum --tun-remcsum"
				;;
			-d | --delete-server) choices="$service --real-server -r" ;;
			-L* | -l* | --list)
				choices="$service --numeric -n --connection -c --timeout --daemon --stats --rate --thresholds
					--persistent-conn --tun-info --exact -X --nosort --sort"
				;;
			-S | --save) choices='--numeric -n' ;;
			--start-daemon)
				choices='--mcast-interface --syncid --sync-maxlen --mcast-group --mcast-port --mcast-ttl'
				;;
			--stop-daemon) choices=--syncid ;;
			esac
		fi
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
	if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$cur"; fi
}
complete -F _ipvsadm ipvsadm
