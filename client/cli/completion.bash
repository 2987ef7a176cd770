# Completion of peach in bash. Commands and options are asked of the program itself, so they are
# those that there are; functions and workers of the fleet, whose broker has 0.3 s to answer.

_peach_commands() {
    "$1" --help 2>/dev/null | sed -nE 's/^  ([a-z]+) .*/\1/p'
}

_peach_options() {
    "$1" "$2" --help 2>/dev/null | sed -nE 's/^ +(-[A-Za-z], )?(--[a-z-]+).*/\2/p'
}

# The first column of what peach status and the like show.
_peach_column() {
    "$1" "$2" --timeout 0.3 ${3:+--connect "$3"} 2>/dev/null | sed -nE '2,$s/^([^ ]+).*/\1/p'
}

_peach_jobs() {
    "$1" status --timeout 0.3 ${2:+--connect "$2"} 2>/dev/null |
        sed -nE '/^ *JOB /,$s/^ *([0-9]+) .*/\1/p'
}

_peach_preloads() {
    "$1" workers --json --timeout 0.3 ${2:+--connect "$2"} 2>/dev/null |
        grep -o '"preloads":\[[^]]*\]' | grep -o '"name":"[^"]*"' | cut -d'"' -f4 | sort -u
}

_peach() {
    local peach=$1 current=$2 previous=$3 command=${COMP_WORDS[1]} words='' broker='' i
    COMPREPLY=()
    for ((i = 2; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in -c | --connect) broker=${COMP_WORDS[i + 1]} ;; esac
    done
    case $previous in
        --start) words='spawn fork' ;;
        --halt) words='now soon' ;;
        --only) words='maps latency bulk balance costs' ;;
        -w | --worker) words=$(_peach_column "$peach" workers "$broker") ;;
        -l | --preload | --joblog | --errors) return ;; # files
        *)
            case $COMP_CWORD,$command,$current in
                1,*,-*) words='--help --version --usage' ;;
                1,*) words="$(_peach_commands "$peach") help" ;;
                *,help,*) words=$(_peach_commands "$peach") ;;
                *,-*) words=$(_peach_options "$peach" "$command") ;;
                *,map,* | *,call,*) words=$(_peach_column "$peach" functions "$broker") ;;
                *,cancel,*) words=$(_peach_jobs "$peach" "$broker") ;;
                *,unload,*) words=$(_peach_preloads "$peach" "$broker") ;;
                *,drain,*) words=$(_peach_column "$peach" workers "$broker") ;;
            esac
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -o bashdefault -o default -F _peach peach
