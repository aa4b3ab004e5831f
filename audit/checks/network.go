package checks

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

func networkRules() []Rule {
	return []Rule{{
		ID: "NET-MQTT-01", Measure: measure.ProtocolMQTTTLS, Bullets: []string{"avoid.unneeded-features"}, Severity: finding.High, Confidence: finding.Firm,
		Title: "MQTT is spoken without TLS", Why: "What goes there in the clear can be read and changed on the way.", Section: "Only use TLS-based MQTT", CWE: []string{"CWE-319"},
		Fix: "Call nxd_mqtt_client_secure_connect, and build with NXD_MQTT_REQUIRE_TLS.", Bad: "nxd_mqtt_client_connect(...)", Good: "nxd_mqtt_client_secure_connect(...)", Judge: eachProgram(judgeMQTT),
	}, {
		ID: "NET-PLAIN-01", Measure: measure.ProtocolTLS, Bullets: []string{"avoid.unneeded-features"}, Severity: finding.Medium, Confidence: finding.Firm,
		Title: "a protocol without protection is in the firmware", Why: "Passwords and data go in the clear, and servers of it take orders from anybody.", Section: "Disable unused protocols and features", CWE: []string{"CWE-319", "CWE-306"},
		Fix: "Leave it out, or use its form over TLS.", Bad: "nx_telnet_server_create(...)", Good: "nx_web_http_server_secure_configure(...)", Judge: eachProgram(judgePlain),
	}, {
		ID: "MOD-LIST-01", Measure: measure.AppUnusedFeatures, Bullets: []string{"avoid.unneeded-features"}, Severity: finding.Medium, Confidence: finding.Firm,
		Title: "a protocol is linked that was not declared", Why: "What nobody needs is what nobody looks after.", Section: "Disable unused protocols and features", CWE: []string{"CWE-1188", "CWE-561"},
		Fix: "Remove it from the build, or declare it under modules in .holdfast-audit.yaml.", Bad: "modules: [mqtt], and a program with FTP", Good: "modules: [mqtt, ftp]", Judge: judgeModuleList,
	}, {
		ID: "NET-PORT-01", Measure: measure.AppUnusedFeatures, Bullets: []string{"avoid.unneeded-features"}, Severity: finding.Medium, Confidence: finding.Firm,
		Title: "a port listens that was not declared", Why: "Each open port is a door.", Section: "Disable unused protocols and features", CWE: []string{"CWE-1125"},
		Fix: "Close it, or declare it under ports in .holdfast-audit.yaml.", Bad: "nx_tcp_server_socket_listen(&ip, 23, ...)", Good: "ports: [tcp/23]", Judge: judgePorts,
	}}
}

func judgeMQTT(p *subject.Program, r *Ruling) {
	plainNames := netXNames("mqtt_client_connect")
	secure := netXNames("mqtt_client_secure_connect")
	own := func(caller string) bool { return strings.Contains(caller, "mqtt_client") }
	found := false
	for _, name := range plainNames {
		if p.Has(name) {
			found = tell(p, name, r, own) || found
		}
	}
	_, tls := uses(p, secure...)
	switch {
	case found:
	case tls:
		r.Pass("%s connects over TLS", p.File)
	case p.Stripped && bare(p):
		r.Unknown("%s", nameless(p))
	default:
		if s, ok := uses(p, "mqtt_client_connect", "MQTTConnect", "MQTT_Connect", "esp_mqtt_client_start", "mosquitto_connect"); ok {
			mqttElsewhere(p, s, r)
			return
		}
		r.Idle("no client of MQTT that is known")
	}
}

// mqttElsewhere judges other clients by whether they set up TLS.
func mqttElsewhere(p *subject.Program, s subject.Symbol, r *Ruling) {
	if by, ok := uses(p, "mosquitto_tls_set", "mosquitto_tls_psk_set", "altcp_tls_create_config_client", "altcp_tls_create_config_client_2wayauth", "mbedtls_ssl_handshake", "mbedtls_ssl_setup", "SSL_connect", "esp_transport_ssl_init", "wolfSSL_connect"); ok {
		r.Pass("%s connects over TLS, with %s", p.File, by.Name)
		return
	}
	r.FoundAs(finding.High, finding.Guess, atSymbol(p, s), "%s is used and no library of TLS", s.Name)
}

// module is a protocol that may be linked.
type module struct {
	name      string
	functions *regexp.Regexp
	objects   *regexp.Regexp // names of objects in linker maps
	plain     string         // what to say where it is without protection; "": it is not told of
	// protected are functions whose use says that it runs over TLS.
	protected []string
}

// protocols are the modules that are known.
var protocols = modules()

func modules() []module {
	m := func(name, functions, objects, plain string, protected ...string) module {
		return module{name, regexp.MustCompile(functions), regexp.MustCompile(objects), plain, protected}
	}
	return []module{
		m("mqtt", `^_?nxde?_mqtt_client_(connect|create|secure_connect)$|^mqtt_client_connect$|^MQTT_?Connect$|^esp_mqtt_client_start$`, `(?i)mqtt`, ""),
		m("http-server", `^_?nxd?e?_(web_)?http_server_(create|start)\w*$|^httpd_(init|start)$|^esp_httpd_start$|^mg_http_listen$`, `(?i)http.?(server|d\b|d_)`, "a server of HTTP",
			"_nx_web_http_server_secure_configure", "_nxe_web_http_server_secure_configure", "nx_web_http_server_secure_configure", "httpd_inits", "httpd_ssl_start"),
		m("http-client", `^_?nxd?e?_(web_)?http_client_(create|get_\w+|post_\w+|put_\w+|request_\w+)$|^httpc_get_file\w*$|^esp_http_client_perform$`, `(?i)http.?c(lient)?\b`, "a client of HTTP",
			"_nx_web_http_client_secure_connect", "_nxe_web_http_client_secure_connect", "_nxd_web_http_client_secure_connect", "_nxde_web_http_client_secure_connect", "_nx_web_http_client_get_secure_start", "_nxe_web_http_client_get_secure_start", "_nxd_web_http_client_get_secure_start", "_nxde_web_http_client_get_secure_start", "altcp_tls_create_config_client", "esp_tls_conn_new_sync"),
		m("ftp", `^_?nxd?e?_ftp_(server|client)_\w+$|^ftpd_init$|^ftp_client_\w+$`, `(?i)\b_?(nxd?_?)?ftp`, "FTP"),
		m("tftp", `^_?nxd?e?_tftp_(server|client)_\w+$|^tftp_init(_server|_client)?$`, `(?i)tftp`, "TFTP"),
		m("telnet", `^_?nxd?e?_telnet_(server|client)_\w+$|^telnetd_init$`, `(?i)telnet`, "Telnet"),
		m("snmp", `^_?nxd?e?_snmp_agent_\w+$|^snmp_init$`, `(?i)snmp`, "SNMP"),
		m("dhcp", `^_?nxd?e?_dhcp_(start|create|client_create)$|^dhcp_start$`, `(?i)dhcp`, ""),
		m("dhcp-server", `^_?nxd?e?_dhcp_server_(start|create)$|^dhcpserver_start$`, `(?i)dhcp.?server`, ""),
		m("dns", `^_?nxd?e?_dns_(create|host_by_name_get)$|^dns_gethostbyname(_addrtype)?$`, `(?i)(^|[^m])dns`, ""),
		m("mdns", `^_?nxd?e?_mdns_(create|enable)$|^mdns_resp_init$|^mdns_init$`, `(?i)mdns`, ""),
		m("sntp", `^_?nxd?e?_sntp_client_(create|run_\w+)$|^sntp_init$`, `(?i)sntp`, ""),
		m("smtp", `^_?nxd?e?_smtp_client_\w+$|^smtp_send_mail$`, `(?i)smtp`, "SMTP", "altcp_tls_create_config_client"),
		m("pop3", `^_?nxd?e?_pop3_client_\w+$`, `(?i)pop3`, "POP3"),
		m("ppp", `^_?nx_ppp_(create|start)$|^pppapi?_connect$`, `(?i)(^|_)ppp`, ""),
		m("nat", `^_?nx_nat_(create|enable)$`, `(?i)nx_nat`, ""),
		m("autoip", `^_?nx_auto_ip_(create|start)$|^autoip_start$`, `(?i)auto_?ip`, ""),
		m("rtp", `^_?nx_rtp_\w+$`, `(?i)nx_rtp`, ""),
		m("rtsp", `^_?nx_rtsp_server_\w+$`, `(?i)rtsp`, "RTSP"),
		m("ptp", `^_?nx_ptp_client_\w+$`, `(?i)ptp_client`, ""),
		m("websocket", `^_?nx_websocket_client_\w+$`, `(?i)websocket`, ""),
		m("coap", `^coap_(new_context|server_\w+|client_\w+|send)$`, `(?i)coap`, ""),
		m("lwm2m", `^lwm2m_\w+$|^nx_lwm2m_\w+$`, `(?i)lwm2m`, ""),
		m("netbios", `^netbiosns_init$`, `(?i)netbios`, "NetBIOS"),
	}
}

// present returns the symbol by which a module is in a program, if it is used.
func (m module) present(p *subject.Program) (subject.Symbol, bool) {
	for _, s := range p.Symbols {
		if s.Kind != subject.FileSymbol && s.Kind != subject.ObjectSymbol && m.functions.MatchString(s.Name) {
			if used, ok := uses(p, s.Name); ok {
				return used, true
			}
		}
	}
	return subject.Symbol{}, false
}

// judgePlain looks for protocols without protection.
func judgePlain(p *subject.Program, r *Ruling) {
	if !firmware(p, r) {
		return
	}
	for _, m := range protocols {
		if m.plain == "" {
			continue
		}
		s, ok := m.present(p)
		if !ok {
			continue
		}
		if _, safe := uses(p, m.protected...); safe && len(m.protected) > 0 {
			continue
		}
		r.Found(atSymbol(p, s), "%s is in the firmware: %s", m.plain, s.Name)
	}
	r.Pass("no protocol without protection is used, of those that are known")
}

// eachFirmware calls f with each program that runs on no operating system and
// whose functions have names, and reports whether there are any of the former.
func eachFirmware(s *subject.Subject, r *Ruling, f func(*subject.Program)) bool {
	some := false
	for _, p := range s.Programs {
		if hosted(p) || p.Type == subject.Core {
			continue
		}
		some = true
		if why := nameless(p); why != "" {
			r.Unknown("%s", why)
			continue
		}
		f(p)
	}
	return some
}

// judgeModuleList holds what is linked against what was declared.
func judgeModuleList(s *subject.Subject, r *Ruling) {
	some := eachFirmware(s, r, func(p *subject.Program) {
		var linked []string
		for _, m := range protocols {
			sym, ok := m.present(p)
			if !ok {
				continue
			}
			linked = append(linked, m.name)
			if s.Declared.File != "" && !declaredModule(s, m.name) {
				r.Found(atSymbol(p, sym), "%s is linked and was not declared: %s", m.name, sym.Name)
			}
		}
		r.Fact("modules of "+subject.Base(p.File), "%s", strings.Join(linked, " "))
	})
	if len(s.Programs) == 0 {
		some = modulesOfMaps(s, r)
	}
	switch {
	case !some:
		r.Idle("no firmware and no map")
	case s.Declared.File == "":
		r.Unknown("nobody declared what may be linked: say modules in .holdfast-audit.yaml")
	default:
		r.Pass("what is linked was declared")
	}
}

// modulesOfMaps goes by the names of objects in linker maps, where there is no
// program to tell better.
func modulesOfMaps(s *subject.Subject, r *Ruling) bool {
	for _, m := range s.Maps {
		var names []string
		for _, o := range m.Objects() {
			names = append(names, subject.Base(strings.TrimSuffix(o[strings.LastIndexByte(o, '(')+1:], ")")))
		}
		for _, mod := range protocols {
			i := slices.IndexFunc(names, mod.objects.MatchString)
			if i >= 0 && s.Declared.File != "" && !declaredModule(s, mod.name) {
				r.FoundAs(finding.Medium, finding.Guess, finding.InFile(m.File), "%s is linked and was not declared: %s", mod.name, names[i])
			}
		}
	}
	return len(s.Maps) > 0
}

// declaredModule reports whether a module was declared, by its name or by the
// first part of it.
func declaredModule(s *subject.Subject, name string) bool {
	short, _, _ := strings.Cut(name, "-")
	return slices.ContainsFunc(s.Declared.Modules, func(d string) bool {
		return strings.EqualFold(d, name) || strings.EqualFold(d, short)
	})
}

// listener is a function that opens a port, and which of its arguments the port
// is.
type listener struct {
	name, protocol string
	port           int
}

func listeners() []listener {
	var all []listener
	for _, n := range netXNames("tcp_server_socket_listen") {
		all = append(all, listener{n, "tcp", 1})
	}
	for _, n := range netXNames("udp_socket_bind") {
		all = append(all, listener{n, "udp", 1})
	}
	return append(all, listener{"tcp_bind", "tcp", 2}, listener{"udp_bind", "udp", 2}, listener{"altcp_bind", "tcp", 2}, listener{"lwip_bind", "tcp", -1}, listener{"zsock_bind", "tcp", -1})
}

// judgePorts looks for calls that open ports, and holds the ports that can be
// read against the declared ones. Port 0 is any that is free: a client's.
func judgePorts(s *subject.Subject, r *Ruling) {
	some := eachFirmware(s, r, func(p *subject.Program) {
		for _, l := range listeners() {
			for _, c := range p.Calls.To(l.name) {
				judgeListener(s, p, l, c, r)
			}
		}
	})
	if !some {
		r.Idle("no firmware")
		return
	}
	r.Pass("no port listens but those that were declared")
}

func judgeListener(s *subject.Subject, p *subject.Program, l listener, c subject.Call, r *Ruling) {
	if strings.Contains(c.From, strings.TrimLeft(l.name, "_nxed")) {
		return // the form with error checking calls the other
	}
	port, ok := argument(p, c, l.port)
	name := fmt.Sprintf("%s/%d", l.protocol, port)
	switch {
	case ok && port == 0:
	case !ok && s.Declared.File != "" && len(s.Declared.Ports) == 0:
		r.FoundAs(finding.Low, finding.Guess, p.At(c.Site), "%s opens a port with %s, and none was declared", orUnnamed(c.From), l.name)
	case !ok:
		r.Unknown("which port %s opens with %s cannot be told", orUnnamed(c.From), l.name)
	case s.Declared.File == "":
		r.Unknown("%s opens %s, and nobody declared which ports may listen: say ports in .holdfast-audit.yaml", orUnnamed(c.From), name)
	case !slices.Contains(s.Declared.Ports, name):
		r.Found(p.At(c.Site), "%s opens %s, which was not declared", orUnnamed(c.From), name)
	}
}
