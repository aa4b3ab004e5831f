package posture

import "holdfast/measure"

// missing says of each measure what evidence would prove it, for the reason of
// a row without any.
var missing = map[measure.ID]string{
	measure.IdentityHardwareRoot: "no birth has shown where its keys live",
	measure.IdentityDeviceID:     "no birth certificate was issued to it",
	measure.IdentityCertificates: "no operational certificate was issued to it",
	measure.IdentityAttestation:  "no evidence of it has been appraised",
	measure.CredentialsRenewable: "no operational certificate was issued to it",
	measure.AccessLeastPrivilege: "no manifest of its workloads has been attested",
	measure.CryptoEntropy:        "no health tests of its entropy source were reported",
	measure.CryptoTime:           "its time is not authenticated",
	measure.CryptoAlgorithms:     "no session has shown its algorithms",
	measure.CryptoAcceleration:   "it has not said which accelerators it uses",
	measure.MemoryProtection:     "nothing attests that its secrets are sealed to the boot state",
	measure.MemoryIsolation:      "no self-test of isolated workloads was reported",
	measure.MemoryNoExecRAM:      "its firmware image has not been audited",
	measure.MemoryBuffers:        "its firmware image has not been audited",
	measure.MemoryStack:          "its firmware image has not been audited",
	measure.FirmwareSecureBoot:   "no boot of it has been attested",
	measure.FirmwareUpdate:       "nothing attests which release it runs",
	measure.FirmwareDowngrade:    "nothing attests its counter and the release it runs",
	measure.FirmwareSigning:      "nothing attests which image it runs",
	measure.ProtocolTLS:          "no session has been seen",
	measure.ProtocolX509:         "no session has been seen",
	measure.ProtocolCipherSuites: "no session has been seen",
	measure.ProtocolMutualTLS:    "no session has been seen",
	measure.ProtocolMQTTTLS:      "no MQTT session has been seen",
	measure.AppDebug:             "nothing attests that its debug access is locked",
	measure.AppWatchdog:          "it has not reported a watchdog",
	measure.AppErrorLogging:      "it has not shipped any logs",
	measure.AppUnusedFeatures:    "no manifest says which ports and features it should have",
	measure.AppCompiler:          "its firmware image has not been audited",
	measure.AppAlignment:         "its firmware image has not been audited",
	measure.MonitorThreats:       "no monitoring agent reports from it",
	measure.MonitorChecklist:     "no signed process evidence is on file",
}
