package embedded
import ("testing";"time";"fmt";"strings")
func BenchmarkInfo(b *testing.B){
 s,_:=NewServer(time.Now()); defer s.Close()
 for i:=range 3000 { s.mini.Set(fmt.Sprintf("ml_results:%032d",i), strings.Repeat("x",2000)); s.mini.SetTTL(fmt.Sprintf("ml_results:%032d",i), time.Hour)}
 for b.Loop() { if _,err:=s.UsedMemory();err!=nil{b.Fatal(err)}}
}
