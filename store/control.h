/* control.h - the control socket: HOME/run/control, one JSON object a line, both ways.
 *
 * request  {"id":1,"op":"config.get","args":{...}}
 * answer   {"v":1,"id":1,"ok":true,"exit":0,"data":...}                       last line of a request
 *          {"v":1,"id":1,"ok":false,"code":"E_NOT_FOUND","exit":7,"message":"...","conflicts":[...],"warnings":[...]}
 * stream   {"id":1,"more":true,"data":...}                                    any number before the answer
 * notice   {"notice":"Revision 183 ..."}                                      unasked, between answers
 * {"op":"cancel","args":{"id":1}} stops request 1. Requests of one connection are served one after another.
 *
 * op                 args -> data                                                          role
 * hello              client, via, peer, interactive -> session, user, role, host, version, revision,
 *                    candidate:{id,changes,base}, detached:[{id,changes,touched}]             any
 * candidate.attach   id                        resume a detached candidate of the same user
 * candidate.anonymous                          this connection's changes belong to no login: dropped at its end
 * candidate.keep                               a one-shot's candidate becomes detached at the end of the connection
 * config.get         section, name, [revision|"running"] -> {name, body, staged, exists}
 * config.list        section, [owner], [prefix], [after], [limit], [bodies], [revision|"running"]
 *                    -> {entries:[{name,body?}], more, total}           the candidate's view unless said otherwise
 * config.stage       changes:[{section,name,body|null,[from]}] -> {staged}      all or nothing; from = old name of a rename.
 *                    A secret field's value is a reference string, or {"$plain":"..."} which is sealed.
 * config.clear       -> {cleared}
 * config.diff        [from],[to] revision numbers | "running" | "candidate"; [section],[name]
 *                    -> {objects:[{section,command,name,kind:"new|changed|deleted",fields:[{name,label,old,new}]}]}
 * config.resolve     section, name, field, take:"mine"|"theirs"
 * commit             [comment],[keep],[check],[plan],[accept_warnings]
 *                    -> {revision, time, merged:[..], plan, new, changed, deleted}; conflicts and errors in the envelope
 * commit.last        -> {revision, time, author, comment}
 * history            [limit],[before] -> {revisions:[{revision,time,author,comment,kind,restores,keep,new,changed,deleted}]}
 * rollback           revision -> {staged}      stages the differences
 * config.export      [format:"batch"|"json"], secrets:"mask"|"encrypt"|"plain", [passphrase],[revision|"candidate"] -> {text}
 * config.import      text, [mode:"merge"|"replace"],[passphrase] -> {new,changed,deleted}   staged
 * file.write         name, text -> {path}      export area HOME/export only: letters, digits, . _ -
 * file.read          name -> {text}
 * file.list          -> {files:[{name,size,time}]}
 * session.who        -> {sessions:[{id,user,role,from,since,idle,what,changes}]}
 * cert.new           name, common_name, organization, unit, locality, state, country, days, algorithm, [names], [replace]
 *                    -> {certificate, csr, subject}   stages a certificate object whose key never leaves the daemon
 * cert.paste         name, certificate, [private_key], [intermediates], [replace] -> {subject, warnings:[..]}   stages a profile;
 *                    without private_key the profile keeps its key, which the certificate must belong to
 * cert.list          -> {certificates:[{name,common_name,issuer,subject,status,remaining_days,not_before,not_after,key,
 *                    signature,serial,sha256,names:[..],intermediates,request,demo,uses:[..],warnings:[..]}]}
 * status             -> {host, version, as_of, up_since, last_reset (0: never), status:"Online", oldest_message
 *                    (seconds, null: none), counters:{NAME:{reset,uptime,lifetime}}, rates:{NAME:{"1","5","15"}} (events
 *                    per hour), ids:{message_id,injection_conn_id,delivery_conn_id}, gauges:{NAME:number},
 *                    listeners:[{name,suspended,connections}]}; times in UNIX seconds; counter names are those of
 *                    daemon/stats.h (inj_msgs, ...), gauges ram_utilization, total_utilization, cpu_utilization,
 *                    disk_utilization, resource_conservation, log_used (per cent), log_available (bytes), conn_in,
 *                    conn_out, active_recips, unattempted_recips, attempted_recips, msgs_in_work_queue,
 *                    dests_in_memory, kbytes_used, kbytes_free
 * status.reset       the "reset" counters start again at 0                                     operator
 * queue.list         by:"host"|"sender"|"all", value, [after],[limit] -> {recipients:[...], more}
 * queue.deliver      [domain] -> {scheduled}
 * queue.suspend      what:"receiving"|"delivery"|"all", [listeners], seconds;   queue.resume likewise
 * log.list           -> {logs:[{name,type,type_name,level}]}
 * log.tail           name, [lines], [follow] -> stream of {line}, until cancelled unless follow is false
 * log.grep           name, patterns:[..], [ignore_case],[invert],[context],[follow] -> stream of {line}; {matches}
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
