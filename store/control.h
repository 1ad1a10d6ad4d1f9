/* control.h - the control socket: HOME/run/control, one JSON object a line, both ways.
 *
 * request  {"id":1,"op":"config.get","args":{...}}
 * answer   {"v":1,"id":1,"ok":true,"exit":0,"data":{...},"head":12,"base":11,"changes":2,"host":"gw.example.com"}
 *          {"v":1,"id":1,"ok":false,"code":"E_NOT_FOUND","exit":7,"message":"...","conflicts":[...],"errors":[...],
 *           "warnings":[...],"head":...}                                      the last line of a request
 * stream   {"id":1,"more":true,"data":{...}}                                  any number before the answer
 * notice   {"notice":"bob committed revision 183: ..."}                       unasked, between answers
 * Every answer says where the prompt stands: the running revision (head), the one the candidate began with (base: head when
 * nothing is staged), how many objects are staged (changes). errors and warnings: [{object,field,message}].
 * {"op":"cancel"} sent while a request is served stops it; it is answered in its turn. Requests of one connection are served
 * one after another. A line has at most 8 MiB. Times are RFC 3339 in UTC, in *_us microseconds since 1970.
 *
 * op                 args -> data                                                          role (none: guest)
 * hello              client, via, peer, interactive -> session, user, role, host, version, revision,
 *                    candidate:{id,changes,base,head,host,touched}, detached:[the same]
 *                    via and peer are the client's word, as SSH_CONNECTION told it: who, history and audit show them as a
 *                    hint; the uid behind user is the kernel's
 * candidate.state    -> as candidate of hello
 * candidate.attach   id -> {candidate}   resume a detached candidate of the same login           operator
 * candidate.anonymous                    this connection's changes belong to no login: dropped at its end. Without it they
 *                                        become detached when the connection ends, however it ends
 * candidate.keep     -> {candidate}      an anonymous one becomes the login's                     operator
 * config.get         section, name, [revision|"running"] -> {name, body, staged, exists}                 readonly
 * config.list        section, [owner], [prefix], [after], [limit], [bodies], [revision|"running"]
 *                    -> {entries:[{name,body?}], more, total}           the candidate's view unless said otherwise
 * config.stage       changes:[{section,name,body|null,[from]}] -> {staged}      all or nothing; from = old name of a rename,
 *                    which takes children and references along; null deletes (single objects: resets), children too.
 *                    A secret field's value is a reference, or {"$plain":"..."} which is sealed. Fields that are left out take
 *                    their defaults; values may come in their text form.                             operator, and
 *                    administrator for users, certificates and trust anchors
 * config.clear       -> {cleared}                                                                     operator
 * config.diff        [from],[to] revision numbers | "running" | "candidate"; [section],[name] -> {objects:[{section,command,
 *                    name,title,kind:"new|changed|deleted|renamed",[from: the old name],
 *                    fields:[{name,label,old,new}]}]}                                                 readonly
 * config.resolve     section, name, [field], take:"mine"|"theirs" -> {changes}                        operator
 * commit             [comment],[keep],[check],[plan] -> {revision (null: nothing to commit), time, time_us,
 *                    merged:[{section,command,name,title,field}], plan, new, changed, deleted}        operator
 *                    conflicts:[{section,command,name,title,field|null,was,theirs,mine}]
 * commit.last        -> the newest of history
 * history            [limit],[before] -> {revisions:[{revision,time,time_us,author,comment,kind,restores,keep,new,changed,
 *                    deleted,via,peer}]}                                                              readonly
 * rollback           revision -> {staged}      stages the differences; refused while there are changes  operator
 * config.export      [format:"batch"|"json"], secrets:"mask"|"encrypt"|"plain", [passphrase],[revision|"candidate"] -> {text}
 *                    readonly with "mask" (text.h), else administrator
 * config.import      text, [mode:"merge"|"replace"],[passphrase] -> {new,changed,deleted}   staged    operator
 * file.write         name, text -> {path}      export area HOME/export only: letters, digits, . _ -   operator, but
 *                    what an administrator wrote only an administrator replaces
 * file.read          name -> {text}
 * file.list          -> {files:[{name,size,time}]}
 * dest.import        name -> {entries,new,changed,deleted}   the destination table is the INI file's; staged  operator
 * dest.export        name -> {path,entries}                                                           operator
 * dest.clear         -> {deleted}             all entries but the default one; staged                 operator
 * access.import      listener, table:"hat"|"rat", name -> {entries,[policies,groups,hosts],new,changed,deleted,remarks:[text]}
 *                    the table is the file's (hat_file.h, rat_file.h); staged                         operator
 * access.export      listener, table, name, [replace] -> {path}                                       operator
 * access.clear       listener, table -> {deleted}   staged                                            operator
 * access.reset       listener, table:"hat" -> {new,changed,deleted}   policies and groups of the factory; staged   operator
 * access.find        listener, table:"hat", address, [host: its verified name] -> {group,entry,policy,behavior,verified,[reverse]}
 *                    of the caller's candidate; without host the DNS is asked                          readonly
 * session.who        -> {sessions:[{id,user,role,from,via,since,since_us,idle,what,changes}]}         readonly
 * cert.new           name ("": the common name), common_name, organization, unit, locality, state, country, days, algorithm,
 *                    [digest], [names], [replace] -> {name, certificate, csr, csr_path, subject}   stages a profile whose key
 *                    never leaves the daemon; the request is saved as NAME.csr in the export area      administrator
 * cert.paste         name, [certificate], [private_key], [intermediates], [remove: sha256], [fqdn], [replace]
 *                    -> {name, changed, subject, findings:[{severity:"note|warning|error",finding,text}], warnings:[text]}
 *                    stages a profile; without private_key it keeps its key, which the certificate must belong to; without
 *                    certificate only its chain changes. The same once more: changed is false          administrator
 * cert.import        name, file|data (PEM or base64 of PKCS#12), [key_file], [pass_phrase], [key: number], [fqdn], [replace]
 *                    -> as cert.paste; keys:["name (subject)"] when one of several must be chosen      administrator
 * cert.export        name, [file], pass_phrase, [legacy] -> {path}   PKCS#12 in the export area        administrator
 * cert.csr           name -> {csr, csr_path}   saved again                                             administrator
 * cert.list          -> {certificates:[{name,common_name,issuer,issuer_name,subject,status,remaining_days,not_before,not_after,
 *                    key,signature,serial,sha256,names:[..],self_signed,authority,intermediates,request,demo,uses:[..]}],
 *                    services:[{service,certificate}]}                                                 readonly
 * cert.detail        name -> as an entry of cert.list, chain:[{..}], findings, warnings, certificate,
 *                    intermediate_certificates, csr                                                    readonly
 * cert.check         [name] -> {certificates:[{name,findings}]}                                        readonly
 * cert.tlsa          name -> {profile, records:[{name,usage,selector,matching,data,text,about}], published:[{name,state:"matches|
 *                    partly|differs|missing|failed",[secure],[reason],records:[{text,matches,[unusable]}]}], other_hosts:[..]}
 *                    what to publish, and what the DNS serves now                                     readonly
 * authority.status   [revision] -> {system:{enabled,count,damaged,version,file,updated,updated_us}, custom:{enabled,count,trusted,
 *                    check_ca_flag}}                                                                  readonly
 * authority.list     list:"system"|"custom", [name] -> {authorities:[{name,enabled,common_name,subject,issuer,status,
 *                    remaining_days,not_before,not_after,key,signature,serial,sha256,ca,[certificate with name]}]}   readonly
 * authority.import   file|text, [fqdn],[add] -> {added,kept,removed,repeated,names:[..],warnings:[..]}   staged; replaces the
 *                    custom list unless add, and enables it                                           administrator
 * authority.export   list, file -> {path,count}                                                       administrator
 * authority.update   -> {changed, system}   reads the system's bundle again, in force at once          administrator
 * sts.list           [after] -> {policies:[{domain,mode ("" when only a failure is known),id,mx:[..],max_age,fetched,expires,used,
 *                    refresh,failed_id,failure,retry}], more}                                         readonly
 * sts.show           domain -> one of them                                                            readonly
 * sts.refresh        domain -> the same, fetched now                                                  operator
 * sts.flush          [domain] -> {flushed}   all without a domain                                     administrator
 * status             -> {host, version, as_of, up_since, last_reset (0: never), status:"Online", oldest_message
 *                    (seconds, null: none), counters:{NAME:{reset,uptime,lifetime}}, rates:{NAME:{"1","5","15"}} (events
 *                    per hour), ids:{message_id,injection_conn_id,delivery_conn_id}, gauges:{NAME:number},
 *                    listeners:[{name,suspended,connections,[missing: why its port is not to be had]}],
 *                    tls_exceptions:{in_force,[next,expires,days]}}; times in UNIX seconds; counter names are those of
 *                    daemon/stats.h (inj_msgs, ...), gauges ram_utilization, total_utilization, cpu_utilization,
 *                    disk_utilization, resource_conservation, log_used (per cent), log_available (bytes), conn_in,
 *                    conn_out, active_recips, unattempted_recips, attempted_recips, msgs_in_work_queue,
 *                    dests_in_memory, kbytes_used, kbytes_free; resource_conservation is 0 to 60, or 999 when mail is
 *                    refused, and then [conservation] says what is scarce
 * status.rate        seconds, [count] -> stream of {time, conn_in, conn_out, inj_msgs, inj_recips, completed_recips (ever),
 *                    active_recips, msgs_in_work_queue, kbytes_used}, until cancelled
 * status.reset       the "reset" counters start again at 0                                     operator
 * host.in            [limit] -> {as_of, hosts:[{host (the address when it has no verified name), ip, verified, listener,
 *                    conn_in}]}   who is connected, the most connections first                         readonly
 * queue.list         by:"host"|"sender"|"mid"|"all", value|mid, [after],[limit] -> {recipients:[...], more, next}   readonly
 * queue.delete       by, value|mid as queue.list -> stream of {event:"progress"|"end",messages,recipients,reports,busy,failed,
 *                    stopped}; the last one again. busy: messages left because they are being delivered   operator
 * queue.bounce       the same, with a report to each sender                                           operator
 * queue.redirect     the same, but not by host, and host: HOST[:PORT], USEDNS takes it back           operator
 * queue.message      mid, [bytes],[header] -> {mid,age,received,received_us,sender,subject,bytes,recipients:[..],text,
 *                    truncated}   text is escaped, its lines end in \n                                 operator
 * queue.oldest       as queue.message with header; no text when the queue is empty: {mid: null}        operator
 * queue.archive      mid, format:"mbox"|"eml", [file],[replace] -> {mid,path,file}   in the export area   operator
 * queue.deliver      [domain] -> {scheduled}
 * queue.suspend      what:"receiving"|"delivery"|"all", [listeners], seconds;   queue.resume likewise
 * queue.work         what:"status"|"pause"|"resume", [reason] -> {as_of, status:"operational"|"paused", messages,
 *                    [paused_by]}   the work queue: what came since it was paused waits                readonly; operator
 * log.list           -> {logs:[{name,type,type_name,level,retrieval}]}
 * log.tail           name, [lines], [follow] -> stream of {line}, until cancelled unless follow is false
 * log.grep           name, patterns:[..], [ignore_case],[invert],[context],[follow] -> stream of {line}; {matches}
 * log.find           name, by:"from|to|subject|id", regex, [ignore_case], [files:"all|dates|current"], [dates] -> stream of
 *                    {mid,time,text}                                                                     readonly
 * log.events         name, mid -> stream of {line}: all that is said of the message, its connections, the reports about it
 * log.rollover       [name] -> {}                                                                       operator
 * host.status        host, [brief] -> {host, as_of, reach:"up|down|unknown", last_activity, counters:{delivered_recips,...},
 *                    gauges:{active_recips, unattempted_recips, attempted_recips, conn_out, conn_pending}}; unless brief also
 *                    oldest_message (seconds, null: none), sessions, sessions_allowed, waiting_messages, while it is down:
 *                    [down_since, down_for, next_probe, failures, down_error], [last_5xx:{text,time,address}], [routes],
 *                    addresses:[{preference,ip,host,state:"up|down|unknown",[connections],[down_since,next_probe,error]}], mx:[{preference,ttl,host,signed,[why]}], expires or dns_error,
 *                    [mta_sts:{state,id,expires,failure}], tls_failures:[{host,reason,seconds}], [tls: the last host of the
 *                    newest recorded attempt, as in attempt.h, with mid and time_us]                    readonly
 * host.rate          host, seconds, [count] -> stream of the same numbers with time, until cancelled    readonly
 * host.top           by:"active_rcpts|conn_out|deliv_recip|hard_bounced|soft_bounced", [limit] -> {as_of, hosts:[the same
 *                    numbers]}                                                                          readonly
 * alert.list         [limit] -> {alerts:[{time,time_us,class,severity,text}]}   the newest first              readonly
 * alert.test         raises an Information alert of the class System                                   operator
 * dane.verify        domain, [detail], [all] -> stream of {event,line,...}; {domain,success}
 * tls.verify         domain, host[:port] -> stream of {event,line,...}; {domain,success}
 * dns.query          name, type, [server], [source], [tcp] -> without server, from the gateway's own resolver: {name,type,status,
 *                    security,canonical,ttl,why,cached,msec,records:[text]}; from a server: {name,type,rcode,flags:[..],error,
 *                    tcp,size,msec,server,answer,authority,additional:[{name,ttl,type,data}]}             operator
 * dns.flush          [name] -> {}                                                                      operator
 * dns.status         -> {source,validating,counters as of status,cache:{entries,bytes,max_bytes},servers:[{address,priority,
 *                    state,why,msec,since}],anchors:[{domain,kind,text,checked}],insecure:[{domain,expires,reason}]}   readonly
 * net.ping           host, [count] -> stream of {line,seq,msec}; {host,address,sent,received}            operator
 * telnet.open        host, port -> {host,address,port,text,open}   one at a time; ends after a while    operator
 * telnet.send        [line] -> {text,open}   with it a line is sent; then what comes until it is quiet  operator
 * telnet.close       -> {}
 * tls.explain        domain, [last],[accepted] -> stream of one {event:"explanation", domain, entry, settings:[..], route, mx,
 *                    mta_sts, hosts:[..], summary, [problem], attempts:[..], advice:[..]}
 * tls.attempts       mid -> {mid, attempts:[..]}   daemon/attempt.h, with sentence, verdict and tls of each host
 * ldap.status        -> {servers:[{name,cache:{entries,max},hosts:[{host,state:"up|down|unknown",why,since,connections,waiting,
 *                    queries,msec}]}]}                                                                 readonly
 * ldap.check         server -> stream of {event:"host",line,host,ok}; {server,success}  connects and binds to each host; of the
 *                    caller's candidate                                                                operator
 * ldap.test          query, [user],[pass_phrase] | [certificate: PEM or profile] | [values:{cn,sn,..}] -> stream of {event:"host",
 *                    line,step:"query|allowance",host,filter,base,dn,[user],result:"match|no match|several|denied|error",reason}; {query,success,verdict:
 *                    "accept|reject|error",reason}   on every host, without the cache; of the caller's candidate   operator
 * ldap.flush         [server] -> {flushed}                                                             operator
 * auth.locked        -> {hosts:[{address,failures,user,seconds}]}   hosts locked out for failed SMTP AUTH          readonly
 * auth.unlock        address|"all" -> {unlocked}                                                       operator
 * crl.list           -> {sources:[{name,enabled,format,url,url2,auto_update,schedule,time,next_fetch,
 *                    state:"current|outdated|missing|disabled",issuer,number,entries,bytes,memory,this_update,next_update,ends,
 *                    fetched,fetched_from,failure,failed_at}]}   readonly
 * crl.update         [name] -> stream of {event:"source",line,name,ok,[changed],[failure]}; {updated,failed}   fetched now  operator
 * crl.check          name: profile or file | certificate: PEM -> {certificates:[{subject,issuer,serial,
 *                    result:"revoked|good|unknown",lists:[{source,state,listed,[revoked],[reason],[covered]}]}]}   readonly
 * debug.fibers       -> {fibers:[{name,what,since_ms,loop}]}
 */
#ifndef POSTERN_CONTROL_H
#define POSTERN_CONTROL_H

#define CONTROL_VERSION 1

enum role { /* each includes what follows it */
    ROLE_GUEST = 1,     /* status only */
    ROLE_READONLY = 2,  /* look at configuration and queue */
    ROLE_OPERATOR = 4,  /* run the queue, change what is not security */
    ROLE_ADMIN = 8,     /* everything */
};

#endif
