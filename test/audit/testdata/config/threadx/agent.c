/* A program with an agent of SNMP and a server of HTTPS in it, by their names. */
void _nx_snmp_agent_start(void *agent);
void agent(void *a) { _nx_snmp_agent_start(a); }
