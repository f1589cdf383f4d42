# bash completion for pointsman and pointsmand; goes to /usr/share/bash-completion/completions/

_pointsman_services() {
	ipvsadm -Sn 2>/dev/null | awk '$1 == "-A" {
		if ($2 == "-f") print "fwmark/" $3
		else print ($2 == "-t" ? "tcp/" : $2 == "-u" ? "udp/" : "sctp/") $3
	}'
}

_pointsman() {
	local cur=${COMP_WORDS[COMP_CWORD]} word choices=

	# The first word that is no option says what the rest can be.
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		[[ $word == -* ]] || break
		word=
	done
	case $word in
	'')
		choices='services show sources status health verdicts connections settings doctor check import diff apply export schema
			drain undrain register fleet mark deny allow limit full-nat top events explain snapshot record get set dataplane detach --json --help --version'
		;;
	services | sources | status | health | verdicts | settings | doctor | export) choices='--json --help' ;;
	show) choices="$(_pointsman_services) --json --help" ;;
	check)
		mapfile -t COMPREPLY < <(compgen -f -W '--keepalived --config-id --json --help' -- "$cur")
		return
		;;
	import)
		mapfile -t COMPREPLY < <(compgen -f -W '--help' -- "$cur")
		return
		;;
	diff)
		mapfile -t COMPREPLY < <(compgen -f -W '--take-over --json --help' -- "$cur")
		return
		;;
	apply)
		mapfile -t COMPREPLY < <(compgen -f -W '--take-over --to --json --help' -- "$cur")
		return
		;;
	fleet) choices='--rollback --json --help' ;;
	drain) choices="$(_pointsman_services) --for --help" ;;
	undrain) choices="$(_pointsman_services) --help" ;;
	mark)
		mapfile -t COMPREPLY < <(compgen -f -W 'add delete list flush import --to --from --protocol --port --interface
			--family --dry-run --json --help' -- "$cur")
		return
		;;
	top) choices='--once --sort --filter --service --json --help' ;;
	events) choices='--follow --kind --json --help' ;;
	explain)
		mapfile -t COMPREPLY < <(compgen -f -W '--flags --interface --count --capture --frame --snapshot --json --help' -- "$cur")
		return
		;;
	record)
		mapfile -t COMPREPLY < <(compgen -f -W '--write --service --client --verdict --snap --limit --sample --help' -- "$cur")
		return
		;;
	snapshot)
		mapfile -t COMPREPLY < <(compgen -f -W '--help' -- "$cur")
		return
		;;
	register)
		mapfile -t COMPREPLY < <(compgen -f -W 'etcd zookeeper consul --service --address --weight --ttl --check --endpoint
			--user --password-file --ca --cert --key --help' -- "$cur")
		return
		;;
	deny | allow)
		mapfile -t COMPREPLY < <(compgen -f -W 'add delete list flush --file --service --for --json --help' -- "$cur")
		return
		;;
	limit) choices='add delete list --rate --connections --prefix --json --help' ;;
	full-nat) choices='add delete list --ports --json --help' ;;
	schema) choices='--help' ;;
	connections) choices='--limit --json --help' ;;
	dataplane) choices='xdp tc userspace --json --help' ;;
	get) choices='--json --help' ;;
	set | detach) choices='--help' ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
}
complete -F _pointsman pointsman

_pointsmand() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} choices

	case $prev in
	-i | --interface) choices=$(ls /sys/class/net 2>/dev/null) ;;
	--dataplane) choices='auto xdp tc userspace none' ;;
	--xdp-mode) choices='auto native generic' ;;
	--engine) choices='packet xdp' ;;
	--metrics-detail) choices='service real-server' ;;
	--log-level) choices='debug info warn error' ;;
	--socket-group | --read-only-socket) choices=$(cut -d: -f1 /etc/group 2>/dev/null) ;;
	--connections | --connections6 | --services | --real-servers | --filters | --workers | --metrics-listen | --otlp | --web) return ;;
	--config | --keepalived | --kubernetes | --otlp-headers | --web-token-file)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--run-dir)
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	*)
		choices='--interface --dataplane --xdp-mode --config --keepalived --kubernetes --run-dir --socket-group --read-only-socket --services --real-servers --filters --connections --connections6
			--workers --engine --busy-poll --own-clients --metrics-listen --metrics-detail --otlp --otlp-headers --web --web-token-file --log-level --help --version'
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
}
complete -F _pointsmand pointsmand
