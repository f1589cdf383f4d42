# bash completion for pointsman and pointsmand; goes to /usr/share/bash-completion/completions/

_pointsman() {
	local cur=${COMP_WORDS[COMP_CWORD]} word choices=

	# The first word that is no option says what the rest can be.
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		[[ $word == -* ]] || break
		word=
	done
	case $word in
	'')
		choices='services status health verdicts connections settings doctor set dataplane detach --json --help --version'
		;;
	services | status | health | verdicts | settings | doctor) choices='--json --help' ;;
	connections) choices='--limit --json --help' ;;
	dataplane) choices='xdp userspace --json --help' ;;
	set | detach) choices='--help' ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
}
complete -F _pointsman pointsman

_pointsmand() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} choices

	case $prev in
	-i | --interface) choices=$(ls /sys/class/net 2>/dev/null) ;;
	--dataplane) choices='auto xdp userspace none' ;;
	--xdp-mode) choices='auto native generic' ;;
	--engine) choices='packet xdp' ;;
	--log-level) choices='debug info warn error' ;;
	--socket-group | --read-only-socket) choices=$(cut -d: -f1 /etc/group 2>/dev/null) ;;
	--connections | --connections6 | --services | --real-servers | --workers) return ;;
	--run-dir)
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	*)
		choices='--interface --dataplane --xdp-mode --run-dir --socket-group --read-only-socket --services --real-servers --connections --connections6
			--workers --engine --busy-poll --log-level --help --version'
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
}
complete -F _pointsmand pointsmand
