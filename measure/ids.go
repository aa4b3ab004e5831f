package measure

import "fmt"

// The measures, in the order of the catalogue.
const (
	IdentityHardwareRoot ID = "identity.hardware-root"
	IdentityDeviceID     ID = "identity.device-id"
	IdentityCertificates ID = "identity.certificates"
	IdentityAttestation  ID = "identity.attestation"
	CredentialsRenewable ID = "credentials.renewable"
	AccessLeastPrivilege ID = "access.least-privilege"
	CryptoEntropy        ID = "crypto.entropy"
	CryptoTime           ID = "crypto.time"
	CryptoAlgorithms     ID = "crypto.algorithms"
	CryptoAcceleration   ID = "crypto.acceleration"
	MemoryProtection     ID = "memory.protection"
	MemoryIsolation      ID = "memory.isolation"
	MemoryNoExecRAM      ID = "memory.no-exec-ram"
	MemoryBuffers        ID = "memory.buffers"
	MemoryStack          ID = "memory.stack"
	FirmwareSecureBoot   ID = "firmware.secure-boot"
	FirmwareUpdate       ID = "firmware.update"
	FirmwareDowngrade    ID = "firmware.downgrade"
	FirmwareSigning      ID = "firmware.signing"
	ProtocolTLS          ID = "protocol.tls"
	ProtocolX509         ID = "protocol.x509"
	ProtocolCipherSuites ID = "protocol.cipher-suites"
	ProtocolMutualTLS    ID = "protocol.mutual-tls"
	ProtocolMQTTTLS      ID = "protocol.mqtt-tls"
	AppDebug             ID = "app.debug"
	AppWatchdog          ID = "app.watchdog"
	AppErrorLogging      ID = "app.error-logging"
	AppUnusedFeatures    ID = "app.unused-features"
	AppCompiler          ID = "app.compiler"
	AppAlignment         ID = "app.alignment"
	MonitorThreats       ID = "monitor.threats"
	MonitorChecklist     ID = "monitor.checklist"
)

// IDs returns every measure's id in the order of the catalogue.
func IDs() []ID {
	return []ID{
		IdentityHardwareRoot, IdentityDeviceID, IdentityCertificates, IdentityAttestation,
		CredentialsRenewable, AccessLeastPrivilege,
		CryptoEntropy, CryptoTime, CryptoAlgorithms, CryptoAcceleration,
		MemoryProtection, MemoryIsolation, MemoryNoExecRAM, MemoryBuffers, MemoryStack,
		FirmwareSecureBoot, FirmwareUpdate, FirmwareDowngrade, FirmwareSigning,
		ProtocolTLS, ProtocolX509, ProtocolCipherSuites, ProtocolMutualTLS, ProtocolMQTTTLS,
		AppDebug, AppWatchdog, AppErrorLogging, AppUnusedFeatures, AppCompiler, AppAlignment,
		MonitorThreats, MonitorChecklist,
	}
}

// Parse returns s as the id of a measure of the catalogue.
func Parse(s string) (ID, error) {
	for _, id := range IDs() {
		if string(id) == s {
			return id, nil
		}
	}
	return "", fmt.Errorf("measure %q is not in the catalogue", s)
}
