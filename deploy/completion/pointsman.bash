# bash completion for pointsman and pointsmand; goes to /usr/share/bash-completion/completions/

_pointsman() {
	local cur=${COMP_WORDS[COMP_CWORD]} choices='--json --help'

	if ((COMP_CWORD == 1)); then choices='services status verdicts connections settings doctor set detach --json --help --version'; fi
	mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
}
complete -F _pointsman pointsman

_pointsmand() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} choices

	case $prev in
	-i | --interface) choices=$(ls /sys/class/net 2>/dev/null) ;;
	--dataplane) choices='auto xdp userspace none' ;;
	--xdp-mode) choices='auto native generic' ;;
	--log-level) choices='debug info warn error' ;;
	--connections | --connections6 | --services | --real-servers | --workers) return ;;
	--run-dir)
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	*)
		choices='--interface --dataplane --xdp-mode --run-dir --services --real-servers --connections --connections6
			--workers --busy-poll --log-level --help --version'
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
}
complete -F _pointsmand pointsmand
