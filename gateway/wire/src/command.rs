//! The commands of the protocol.

macro_rules! commands {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)*) => {
        /// A command: the first byte of what a client sends in the command phase.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names are the protocol's own")]
        pub enum Command { $($(#[$doc])* $variant = $code),* }

        impl Command {
            /// Every command.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// None: no command of MySQL or MariaDB.
            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// Its byte.
            #[must_use]
            pub fn code(self) -> u8 {
                self as u8
            }

            /// As the protocol calls it: `COM_QUERY`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

commands! {
    Sleep = 0x00, "COM_SLEEP";
    Quit = 0x01, "COM_QUIT";
    InitDb = 0x02, "COM_INIT_DB";
    Query = 0x03, "COM_QUERY";
    FieldList = 0x04, "COM_FIELD_LIST";
    CreateDb = 0x05, "COM_CREATE_DB";
    DropDb = 0x06, "COM_DROP_DB";
    Refresh = 0x07, "COM_REFRESH";
    Shutdown = 0x08, "COM_SHUTDOWN";
    Statistics = 0x09, "COM_STATISTICS";
    ProcessInfo = 0x0a, "COM_PROCESS_INFO";
    Connect = 0x0b, "COM_CONNECT";
    ProcessKill = 0x0c, "COM_PROCESS_KILL";
    Debug = 0x0d, "COM_DEBUG";
    Ping = 0x0e, "COM_PING";
    Time = 0x0f, "COM_TIME";
    DelayedInsert = 0x10, "COM_DELAYED_INSERT";
    ChangeUser = 0x11, "COM_CHANGE_USER";
    BinlogDump = 0x12, "COM_BINLOG_DUMP";
    TableDump = 0x13, "COM_TABLE_DUMP";
    ConnectOut = 0x14, "COM_CONNECT_OUT";
    RegisterSlave = 0x15, "COM_REGISTER_SLAVE";
    StmtPrepare = 0x16, "COM_STMT_PREPARE";
    StmtExecute = 0x17, "COM_STMT_EXECUTE";
    StmtSendLongData = 0x18, "COM_STMT_SEND_LONG_DATA";
    StmtClose = 0x19, "COM_STMT_CLOSE";
    StmtReset = 0x1a, "COM_STMT_RESET";
    SetOption = 0x1b, "COM_SET_OPTION";
    StmtFetch = 0x1c, "COM_STMT_FETCH";
    Daemon = 0x1d, "COM_DAEMON";
    ResetConnection = 0x1f, "COM_RESET_CONNECTION";
    /// MariaDB.
    StmtBulkExecute = 0xfa, "COM_STMT_BULK_EXECUTE";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for command in Command::ALL {
            assert_eq!(Command::from_code(command.code()), Some(*command));
        }
        assert_eq!(Command::from_code(0x77), None);
    }
}
