# Tcl's client, that of tcllib, driven by lines (see drivers.py): tclsh drive.tcl
if {[catch {package require websocket} version]} {
    puts missing
    exit
}

set events {}
proc word {data} { return "=[binary encode base64 $data]" }
proc data {word} { binary decode base64 [string range $word 1 end] }
proc tell_event {args} { lappend ::events [join $args " "] }

proc happened {socket kind data} {
    switch $kind {
        connect { tell_event open }
        text { tell_event text [word [encoding convertto utf-8 $data]] }
        binary { tell_event binary [word $data] }
        close { set ::closing $data }
        disconnect {
            lassign $::closing code reason
            tell_event closed [expr {$code eq "" ? 1006 : $code}] [word [encoding convertto utf-8 $reason]]
        }
        error { tell_event refused - - }
    }
}

proc next_event {} {
    while {[llength $::events] == 0} { vwait ::events }
    set ::events [lassign $::events event]
    return $event
}

proc answer {command args} {
    switch $command {
        connect {
            set ::events {}
            set ::closing {}
            if {[catch {set ::socket [websocket::open [lindex $args 0] happened]}]} { return "refused - -" }
            return [next_event]
        }
        receive { return [next_event] }
        text { websocket::send $::socket text [encoding convertfrom utf-8 [data [lindex $args 0]]] }
        binary { websocket::send $::socket binary [data [lindex $args 0]] }
        close {
            websocket::close $::socket [lindex $args 0] [encoding convertfrom utf-8 [data [lindex $args 1]]]
        }
    }
    return done
}

fconfigure stdout -buffering line
puts "version $version"
while {[gets stdin line] >= 0} { puts [answer {*}[split $line " "]] }
